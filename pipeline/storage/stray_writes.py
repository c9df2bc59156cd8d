"""Moves aside files that the table engine wrote after the lake's folder had disappeared."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import LakeUnavailableError


@contextmanager
def set_aside_stray_writes(root: str) -> Iterator[None]:
    """Protect a block that writes tables against a lake that disappears meanwhile.

    The table engine creates missing folders. If the lake disappeared during the block (its disk was
    unmounted, for example), the new folder is moved aside, so that it is not taken for the lake. It
    is never removed.

    Args:
        root: of the lake, local or a URL.

    Raises:
        LakeUnavailableError: the folder at `root` is no longer the same one.
    """
    before = _identity(root)
    try:
        yield
    finally:
        after = _identity(root)
        if before and after and after != before:
            stray = f"{root}.stray-{uuid.uuid4().hex}"
            try:
                Path(root).rename(stray)
            except OSError as error:
                # A disk that was mounted meanwhile cannot be renamed.
                stray = f"{root} ({error.strerror})"
            raise LakeUnavailableError(
                f"The lake's folder was replaced during a commit; the new folder is now {stray}",
                where=root,
            )


def _identity(root: str) -> tuple[int, int] | None:
    """Device and inode of a local lake's folder; None in object storage or if it is missing."""
    try:
        found = Path(root).stat() if "://" not in root else None
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found else None
