"""Moves aside what the table engine wrote where the lake had disappeared."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import LakeUnavailableError


@contextmanager
def set_aside_stray_writes(root: str) -> Iterator[None]:
    """Let the block write tables to a lake; what it wrote after that went away is no lake.

    The tables' engine makes missing folders again. What it began where the lake stood is moved
    aside, never removed.

    Raises:
        LakeUnavailableError: another folder stands where the lake stood.
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
                # A disk that was mounted meanwhile does not move.
                stray = f"{root}, which stays there: {error.strerror}"
            raise LakeUnavailableError(
                f"went away during a commit; what stood in its place after it is {stray}",
                where=root,
            )


def _identity(root: str) -> tuple[int, int] | None:
    """Device and inode of a local lake's folder; None in object storage, or where none is."""
    try:
        found = Path(root).stat() if "://" not in root else None
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found else None
