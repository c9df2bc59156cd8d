"""Tells a lake that exists from one whose disk is missing, and creates new lakes."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import LakeUnavailableError, PipelineError
from pipeline.storage.folder import UNFINISHED_PREFIX
from pipeline.storage.storage_errors import storage_errors


def lake_exists(root: str) -> bool:
    """Whether a lake is there: on a disk, whether its folder holds anything.

    A disk that is not mounted leaves an empty folder, or none.
    """
    return "://" in root or (Path(root).is_dir() and any(Path(root).iterdir()))


def create_lake(root: str, *, seen_before: bool) -> None:
    """Make the folder of a new lake, unless a lake is expected there; do nothing where one stands.

    Only the last folder is made: where the one above is missing, so is its disk.

    Args:
        root: of the lake, local or a URL.
        seen_before: whether this process has seen the lake standing.

    Raises:
        LakeUnavailableError: the lake has gone away, or its disk is not mounted.
    """
    if lake_exists(root):
        return
    refuse_missing_lake(root, seen_before=seen_before)
    above = Path(root).parent
    if not above.is_dir():
        raise LakeUnavailableError(
            f"the folder above it is missing; if a new lake is to begin here: mkdir -p {above}",
            where=root,
        )
    with storage_errors(root):
        # Another process may be at it: the folder appears with something in it, or not at all.
        aside = Path(f"{root}{UNFINISHED_PREFIX}{uuid.uuid4().hex}")
        aside.mkdir()
        (aside / "tables").mkdir()
        try:
            aside.rename(root)
        except OSError:
            shutil.rmtree(aside)
            if not lake_exists(root):
                raise


def unfinished_lakes(root: str) -> list[Path]:
    """What `create_lake` has beside a local lake: of processes that make it now, or were killed."""
    lake = Path(root)
    if not lake.is_dir() or not os.access(lake.parent, os.R_OK):
        return []
    name = re.compile(re.escape(f"{lake.name}{UNFINISHED_PREFIX}") + "[0-9a-f]{32}")
    return sorted(path for path in lake.parent.iterdir() if name.fullmatch(path.name))


def refuse_missing_lake(root: str, *, seen_before: bool) -> None:
    """Tell a lake that is yet to be made from one whose disk is missing.

    Raises:
        LakeUnavailableError: it was there a moment ago, or its folder is an empty one.
    """
    if lake_exists(root):
        return
    if seen_before:
        raise LakeUnavailableError("was there a moment ago", where=root)
    # Looked at again: a lake that another process begins appears with something in it.
    if Path(root).is_dir() and not lake_exists(root):
        raise LakeUnavailableError(
            "an empty folder, as a disk leaves that is not mounted; if a new lake is to begin "
            f"here: mkdir {root}/tables",
            where=root,
        )


@contextmanager
def missing_lake_errors(root: str) -> Iterator[None]:
    """Let an error of the block mean that the lake has gone away, where it has.

    Raises:
        LakeUnavailableError: in place of an error that names a missing file.
    """
    try:
        yield
    except (PipelineError, OSError) as error:
        if lake_exists(root) or isinstance(error, LakeUnavailableError):
            raise
        text = error.what if isinstance(error, PipelineError) else str(error)
        raise LakeUnavailableError(f"no lake, or gone meanwhile: {text}", where=root) from error
