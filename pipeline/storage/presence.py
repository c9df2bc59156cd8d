"""Creates lakes, and distinguishes a new lake from one whose disk is not mounted."""

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
from pipeline.storage.storage_errors import error_text, storage_errors


def lake_exists(root: str) -> bool:
    """Return whether there is a lake: a local one has a folder that is not empty.

    If a disk is not mounted, its mount point is empty or missing.
    """
    return "://" in root or (Path(root).is_dir() and any(Path(root).iterdir()))


def create_lake(root: str, *, seen_before: bool) -> None:
    """Create the folder of a new lake; do nothing if the lake exists.

    Only the last folder of the path is created: if its parent is missing, a disk may be missing.

    Args:
        root: of the lake, local or a URL.
        seen_before: whether this process has already seen the lake; then it is not created again.

    Raises:
        LakeUnavailableError: the lake disappeared, or its disk is not mounted.
    """
    if lake_exists(root):
        return
    refuse_missing_lake(root, seen_before=seen_before)
    above = Path(root).parent
    if not above.is_dir():
        raise LakeUnavailableError(
            "The lake's parent folder is missing: its disk is not mounted, or a new lake needs "
            f"`mkdir -p {above}`",
            where=root,
        )
    with storage_errors(root):
        # Another process may do the same. The rename is atomic, so nobody sees an empty folder.
        temporary = Path(f"{root}{UNFINISHED_PREFIX}{uuid.uuid4().hex}")
        temporary.mkdir()
        (temporary / "tables").mkdir()
        try:
            temporary.rename(root)
        except OSError:
            shutil.rmtree(temporary)
            if not lake_exists(root):
                raise


def unfinished_lakes(root: str) -> list[Path]:
    """Return the temporary folders of `create_lake` beside a local lake, sorted.

    They belong to processes that are creating the lake now, or that were killed.
    """
    lake = Path(root)
    if not lake.is_dir() or not os.access(lake.parent, os.R_OK):
        return []
    name = re.compile(re.escape(f"{lake.name}{UNFINISHED_PREFIX}") + "[0-9a-f]{32}")
    return sorted(path for path in lake.parent.iterdir() if name.fullmatch(path.name))


def refuse_missing_lake(root: str, *, seen_before: bool) -> None:
    """Fail if the lake is missing but should exist; accept a lake that was never created.

    Args:
        root: of the lake, local or a URL.
        seen_before: whether this process has already seen the lake.

    Raises:
        LakeUnavailableError: the lake was seen before, or its folder is empty.
    """
    if lake_exists(root):
        return
    if seen_before:
        raise LakeUnavailableError("The lake disappeared while it was in use", where=root)
    # Check again: another process may have created the lake since the first check.
    if Path(root).is_dir() and not lake_exists(root):
        raise LakeUnavailableError(
            "The lake's folder is empty: its disk is not mounted, or a new lake needs "
            f"`mkdir {root}/tables`",
            where=root,
        )


@contextmanager
def missing_lake_errors(root: str) -> Iterator[None]:
    """Replace an error of the block if its cause is that the lake disappeared.

    Without this, the error would only name a missing file.

    Raises:
        LakeUnavailableError: the lake is missing.
    """
    try:
        yield
    except (PipelineError, OSError) as error:
        if lake_exists(root) or isinstance(error, LakeUnavailableError):
            raise
        raise LakeUnavailableError(
            f"The lake is missing: {error_text(error)}", where=root
        ) from error
