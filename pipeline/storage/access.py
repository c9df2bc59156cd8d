"""What an error of the storage means: it may pass, nothing may be written, or data is damaged.

Local disks, Rust's object stores, Arrow's and Amazon's each raise errors of their own; most say
what happened in their text alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow.fs as pafs

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
_BEGUN = ".aside-"


def filesystem(root: str, options: Mapping[str, str]) -> tuple[pafs.FileSystem, str]:
    """What reads the files of a lake, and the path of its root in there.

    Args:
        root: local path, or s3://bucket/prefix.
        options: `[lake] storage_options`.
    """
    if "://" not in root:
        return pafs.LocalFileSystem(), root
    endpoint = options.get("aws_endpoint_url") or os.environ.get("AWS_ENDPOINT_URL")
    objects = pafs.S3FileSystem(
        region=options.get("aws_region") or os.environ.get("AWS_REGION"),
        endpoint_override=endpoint,
        scheme="http" if endpoint and endpoint.startswith("http://") else "https",
    )
    return objects, root.split("://", 1)[1]


def meaning(error: Exception, where: str) -> PipelineError:
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


def stands(root: str) -> bool:
    """Whether a lake is there: on a disk, whether its folder holds anything.

    A disk that is not mounted leaves an empty folder, or none.
    """
    return "://" in root or (Path(root).is_dir() and any(Path(root).iterdir()))


def begin(root: str, *, stood: bool) -> None:
    """Make the folder of a new lake, unless a lake is expected there; do nothing where one stands.

    Only the last folder is made: where the one above is missing, so is its disk.

    Args:
        root: of the lake, local or a URL.
        stood: whether this process has seen the lake standing.

    Raises:
        LakeUnavailableError: the lake has gone away, or its disk is not mounted.
    """
    if stands(root):
        return
    refuse_missing(root, stood=stood)
    above = Path(root).parent
    if not above.is_dir():
        raise LakeUnavailableError(
            f"the folder above it is missing; if a new lake is to begin here: mkdir -p {above}",
            where=root,
        )
    with storage_errors(root):
        # Another process may be at it: the folder appears with something in it, or not at all.
        aside = Path(f"{root}{_BEGUN}{uuid.uuid4().hex}")
        aside.mkdir()
        (aside / "tables").mkdir()
        try:
            aside.rename(root)
        except OSError:
            shutil.rmtree(aside)
            if not stands(root):
                raise


@contextmanager
def in_its_place(root: str) -> Iterator[None]:
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


def begun_aside(root: str) -> list[Path]:
    """What `begin` has beside a local lake: of processes that make it now, or were killed."""
    lake = Path(root)
    if not lake.is_dir() or not os.access(lake.parent, os.R_OK):
        return []
    name = re.compile(re.escape(f"{lake.name}{_BEGUN}") + "[0-9a-f]{32}")
    return sorted(path for path in lake.parent.iterdir() if name.fullmatch(path.name))


def refuse_missing(root: str, *, stood: bool) -> None:
    """Tell a lake that is yet to be made from one whose disk is missing.

    Raises:
        LakeUnavailableError: it was there a moment ago, or its folder is an empty one.
    """
    if stands(root):
        return
    if stood:
        raise LakeUnavailableError("was there a moment ago", where=root)
    # Looked at again: a lake that another process begins appears with something in it.
    if Path(root).is_dir() and not stands(root):
        raise LakeUnavailableError(
            "an empty folder, as a disk leaves that is not mounted; if a new lake is to begin "
            f"here: mkdir {root}/tables",
            where=root,
        )


def may_be_cleaned_up(error: Exception) -> bool:
    """Whether a table's log lacks what upkeep may have removed while it was read."""
    return isinstance(error, FileNotFoundError) or bool(_CLEANED_UP_TEXT.search(str(error)))


@contextmanager
def storage_errors(where: str) -> Iterator[None]:
    """Let an `OSError` of the block mean what `meaning` says."""
    try:
        yield
    except OSError as error:
        raise meaning(error, where) from error


@contextmanager
def standing(root: str) -> Iterator[None]:
    """Let an error of the block mean that the lake has gone away, where it has.

    Raises:
        LakeUnavailableError: in place of an error that names a missing file.
    """
    try:
        yield
    except (PipelineError, OSError) as error:
        if stands(root) or isinstance(error, LakeUnavailableError):
            raise
        text = error.what if isinstance(error, PipelineError) else str(error)
        raise LakeUnavailableError(f"no lake, or gone meanwhile: {text}", where=root) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a local folder alone, until the block or the process ends; no lock file is left."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def writing_into(folder: Path) -> Iterator[None]:
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
        refused = isinstance(meaning(error, str(folder)), DiskFullError)
        if refused or free < _LEAST_FREE_BYTES or disk.f_flag & os.ST_RDONLY:
            raise DiskFullError(f"{free} bytes free: {error}", where=str(folder)) from error
        raise
