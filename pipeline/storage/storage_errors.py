"""Translates storage errors: it may pass, nothing may be written, or data is damaged.

Local disks, Rust's object stores, Arrow's and Amazon's each raise errors of their own; most say
what happened in their text alone.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import DiskFullError, LakeUnavailableError, PipelineError, ProvenanceError

_MAY_NOT_WRITE = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
}
_NO_ANSWER = {errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT}
_MAY_NOT_WRITE_TEXT = re.compile(
    r"no space left|disk quota|file too large|read-only file|permission denied|access.?denied"
    r"|necessary privileges|403 forbidden",
    re.IGNORECASE,
)
_NO_ANSWER_TEXT = re.compile(
    r"s3 error|aws error|error performing|an error occurred \(|could not connect|connection"
    r"|timed out|timeout|input/output error|stale file handle",
    re.IGNORECASE,
)
_MISSING_TEXT = re.compile(r"not found|nosuchkey", re.IGNORECASE)
_CLEANED_UP_TEXT = re.compile(
    r"not found|invalid table version|find any checkpoints|contiguous commit", re.IGNORECASE
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LEAST_FREE_BYTES = 1_000_000


def as_pipeline_error(error: Exception, where: str) -> PipelineError:
    """The error of ours that says what an error of the storage means.

    Args:
        error: as the library raised it.
        where: URL or local path of the table or folder concerned.
    """
    # Some libraries draw a tree in colours over several lines.
    text = " ".join(_COLOUR.sub("", str(error)).split())
    number = error.errno if isinstance(error, OSError) else None
    if number in _MAY_NOT_WRITE or _MAY_NOT_WRITE_TEXT.search(text):
        return DiskFullError(text, where=where)
    unanswered = _NO_ANSWER_TEXT.search(text) and not _MISSING_TEXT.search(text)
    vanished = "://" not in where and not Path(where).exists()
    if number in _NO_ANSWER or unanswered or vanished:
        return LakeUnavailableError(text, where=where)
    return ProvenanceError(f"damaged: {text}", where=where)


def may_be_log_cleanup(error: Exception) -> bool:
    """Whether a table's log lacks what upkeep may have removed while it was read."""
    return isinstance(error, FileNotFoundError) or bool(_CLEANED_UP_TEXT.search(str(error)))


@contextmanager
def storage_errors(where: str) -> Iterator[None]:
    """Let an `OSError` of the block mean what `as_pipeline_error` says."""
    try:
        yield
    except OSError as error:
        raise as_pipeline_error(error, where) from error


@contextmanager
def write_errors(folder: Path) -> Iterator[None]:
    """Say so where the disk is why the block failed to write into a folder.

    Libraries that write models and indices raise errors that do not name the reason.

    Raises:
        DiskFullError: less than a megabyte is free, or nothing may be written.
        LakeUnavailableError: the folder has gone away.
    """
    try:
        yield
    except Exception as error:
        if not folder.is_dir():
            raise LakeUnavailableError(f"gone meanwhile: {error}", where=str(folder)) from error
        if isinstance(error, PipelineError):
            raise
        disk = os.statvfs(folder)
        free = disk.f_bavail * disk.f_frsize
        refused = isinstance(as_pipeline_error(error, str(folder)), DiskFullError)
        if refused or free < _LEAST_FREE_BYTES or disk.f_flag & os.ST_RDONLY:
            raise DiskFullError(f"{free} bytes free: {error}", where=str(folder)) from error
        raise
