"""Errors of storage libraries, translated by number and by the texts that these libraries use."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.errors import (
    DiskFullError,
    LakeAccessError,
    LakeUnavailableError,
    ProvenanceError,
    ReleaseError,
)
from pipeline.storage.storage_errors import (
    as_pipeline_error,
    may_be_log_cleanup,
    storage_errors,
    write_errors,
)

S3 = "s3://lake/debcm"


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, DiskFullError),
        (errno.EDQUOT, DiskFullError),
        (errno.EFBIG, DiskFullError),
        # Fault 8: these were full disks, and the remedy was to free space.
        (errno.EROFS, LakeAccessError),
        (errno.EACCES, LakeAccessError),
        (errno.EPERM, LakeAccessError),
    ],
)
def test_a_disk_that_cannot_be_written_is_permanent(
    tmp_path: Path, number: int, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match=str(tmp_path)), storage_errors(str(tmp_path)):
        raise OSError(number, "no")
    with pytest.raises(kind, match=str(tmp_path)), write_errors(tmp_path):
        raise OSError(number, "no")


def test_a_write_to_a_read_only_file_system_is_not_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Libraries that write models and indices do not say why they failed."""
    found = SimpleNamespace(f_bavail=0, f_frsize=4096, f_flag=os.ST_RDONLY)
    monkeypatch.setattr(os, "statvfs", lambda _: found)
    with pytest.raises(LakeAccessError, match="was denied"), write_errors(tmp_path):
        raise RuntimeError("could not write")
    found.f_flag = 0
    with pytest.raises(DiskFullError, match="with 0 bytes free"), write_errors(tmp_path):
        raise RuntimeError("could not write")


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT])
def test_a_disk_that_does_not_answer_is_transient(tmp_path: Path, number: int) -> None:
    assert isinstance(as_pipeline_error(OSError(number, "no"), str(tmp_path)), LakeUnavailableError)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Generic LocalFileSystem error: No space left on device (os error 28)", DiskFullError),
        ("AWS Error ACCESS_DENIED during HeadObject operation", LakeAccessError),
        ("An error occurred (AccessDenied) when calling the GetObject operation", LakeAccessError),
        ("Generic S3 error: Error performing GET x/part-0.parquet: 500", LakeUnavailableError),
        ("AWS Error SLOW_DOWN during ListObjectsV2 operation", LakeUnavailableError),
        ("An error occurred (InternalError) when calling the PutObject", LakeUnavailableError),
        ("Object at location x.parquet not found: Error performing GET: 404", ProvenanceError),
        ("Json error: Truncated record whilst reading string", ProvenanceError),
        ("parquet: File out of specification: FileMetaData.version missing", ProvenanceError),
    ],
)
def test_the_text_of_a_library_decides(text: str, kind: type[Exception]) -> None:
    assert isinstance(as_pipeline_error(RuntimeError(text), S3), kind)


def test_a_missing_file_in_a_missing_folder_is_transient(tmp_path: Path) -> None:
    error = FileNotFoundError(errno.ENOENT, "no such file")
    assert isinstance(as_pipeline_error(error, str(tmp_path / "gone")), LakeUnavailableError)
    assert isinstance(as_pipeline_error(error, str(tmp_path)), ProvenanceError)


@pytest.mark.parametrize("error", [ReleaseError("unreadable"), FileNotFoundError("metrics.json")])
def test_a_write_into_a_folder_that_disappeared_says_so(tmp_path: Path, error: Exception) -> None:
    gone = tmp_path / "gone"
    with (
        pytest.raises(LakeUnavailableError, match=f"folder disappeared.*{gone}"),
        write_errors(gone),
    ):
        raise error


def test_another_error_of_a_write_passes_unchanged(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="damaged"), write_errors(tmp_path):
        raise ReleaseError("damaged")
    with pytest.raises(ValueError, match="of another kind"), write_errors(tmp_path):
        raise ValueError("of another kind")


def test_a_message_is_one_line_without_colours() -> None:
    tree = "Kernel error\n  \x1b[31m↳\x1b[0m Generic S3 error\n    \x1b[31m↳\x1b[0m timed out\n"
    assert (
        as_pipeline_error(RuntimeError(tree), S3).what
        == "Kernel error ↳ Generic S3 error ↳ timed out"
    )


def test_a_write_that_the_disk_refused_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match=str(tmp_path)), write_errors(tmp_path):
        raise OSError(errno.EFBIG, "too large")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Object at location _delta_log/00000000000000000007.json not found", True),
        ("Invalid table version: 7", True),
        ("Had a _last_checkpoint hint but didn't find any checkpoints", True),
        ("Expected contiguous commit files, but found gap", True),
        ("Json error: Truncated record whilst reading string", False),
        ("Generic S3 error: Error performing GET: 500", False),
    ],
)
def test_a_log_that_upkeep_shortened_is_recognised(text: str, expected: bool) -> None:
    assert may_be_log_cleanup(RuntimeError(text)) is expected
