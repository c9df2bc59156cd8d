"""Translates storage errors into pipeline errors: unavailable, not writable, or damaged.

Local disks, deltalake, Arrow and boto3 raise different errors. Most say only in their text what
happened.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import (
    DiskFullError,
    LakeAccessError,
    LakeUnavailableError,
    PipelineError,
    ProvenanceError,
)

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EROFS, errno.EACCES, errno.EPERM}
_NO_ANSWER = {errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT}
_FULL_TEXT = re.compile(r"no space left|disk quota|file too large", re.IGNORECASE)
_DENIED_TEXT = re.compile(
    r"read-only file|permission denied|access.?denied|necessary privileges|403 forbidden",
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


def error_text(error: Exception) -> str:
    """Return the text of an error on one line, without colours and without a remedy."""
    text = error.summary if isinstance(error, PipelineError) else str(error)
    # deltalake prints a tree of causes with colours, over several lines.
    return " ".join(_COLOUR.sub("", text).split())


def as_pipeline_error(error: Exception, where: str) -> PipelineError:
    """Return the pipeline error for an error of a storage library.

    Args:
        error: as the library raised it.
        where: URL or local path of the table or folder concerned.

    Returns:
        `DiskFullError` if there is no space, `LakeAccessError` if access is denied,
        `LakeUnavailableError` if the storage does not answer or a local path is missing, otherwise
        `ProvenanceError`.
    """
    text = error_text(error)
    number = error.errno if isinstance(error, OSError) else None
    if number in _FULL or _FULL_TEXT.search(text):
        return DiskFullError(text, where=where)
    if number in _DENIED or _DENIED_TEXT.search(text):
        return LakeAccessError(text, where=where)
    unanswered = _NO_ANSWER_TEXT.search(text) and not _MISSING_TEXT.search(text)
    vanished = "://" not in where and not Path(where).exists()
    if number in _NO_ANSWER or unanswered or vanished:
        return LakeUnavailableError(text, where=where)
    return ProvenanceError(f"Data is damaged or missing: {text}", where=where)


def may_be_log_cleanup(error: Exception) -> bool:
    """Return whether upkeep may have removed entries of the table's log during the read."""
    return isinstance(error, FileNotFoundError) or bool(_CLEANED_UP_TEXT.search(str(error)))


@contextmanager
def storage_errors(where: str) -> Iterator[None]:
    """Raise an `OSError` of the block as the error of `as_pipeline_error`.

    Args:
        where: URL or local path of the table or folder concerned.
    """
    try:
        yield
    except OSError as error:
        raise as_pipeline_error(error, where) from error


@contextmanager
def write_errors(folder: Path) -> Iterator[None]:
    """Replace an error of a block that writes into a folder, if the disk is its cause.

    Libraries that write models and indices do not report a full disk as such.

    Raises:
        DiskFullError: less than a megabyte is free.
        LakeAccessError: the folder is not writable.
        LakeUnavailableError: the folder disappeared.
    """
    try:
        yield
    except Exception as error:
        if not folder.is_dir():
            raise LakeUnavailableError(
                f"The folder disappeared during the write: {error_text(error)}", where=str(folder)
            ) from error
        if isinstance(error, PipelineError):
            raise
        disk = os.statvfs(folder)
        free = disk.f_bavail * disk.f_frsize
        kind = type(as_pipeline_error(error, str(folder)))
        # A read-only file system can be full as well, and space would not help.
        if kind is LakeAccessError or disk.f_flag & os.ST_RDONLY:
            raise LakeAccessError(
                f"The write was denied: {error_text(error)}", where=str(folder)
            ) from error
        if kind is DiskFullError or free < _LEAST_FREE_BYTES:
            raise DiskFullError(
                f"The write failed with {free} bytes free: {error_text(error)}", where=str(folder)
            ) from error
        raise
