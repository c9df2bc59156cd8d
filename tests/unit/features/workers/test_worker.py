"""Checks what a worker answers when a file is missing, unreadable, or changes during the job."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from features import Limits, MediaError, MediaInfo, Reason
from features.workers import protocol, worker

GOOD = b"the bytes with the expected hash"


def answer(path: str, content_hash: str | None = None) -> MediaError:
    """Return the answer to a probe after packing and unpacking it."""
    job = {"path": path, "kind": "probe", "content_hash": content_hash, "segments": []}
    given = worker.Worker(Limits(), None, None).answer(job)
    ((header, arrays),) = protocol.Unpacker().feed(protocol.pack_result(given))
    result = protocol.unpack_result(header, arrays)
    assert isinstance(result, MediaError)
    return result


@pytest.mark.parametrize(
    "name",
    ["a\0b.mp4", chr(0xD800), chr(0xDCFF), "x" * 5000, ""],
    ids=["zero", "half a pair", "no utf-8", "long", "folder"],
)
def test_an_impossible_file_name_is_rejected_with_a_reason(name: str, tmp_path: Path) -> None:
    error = answer(f"{tmp_path}/{name}")
    assert error.reason in (Reason.MISSING, Reason.UNREADABLE)
    error.detail.encode()


@pytest.mark.parametrize(
    ("meanwhile", "reason"),
    [
        (lambda path: None, Reason.UNDECODABLE),
        (lambda path: path.write_bytes(b"other bytes"), Reason.HASH_MISMATCH),
        (lambda path: path.unlink(), Reason.UNREADABLE),
    ],
)
def test_an_error_is_about_the_bytes_with_the_expected_hash(
    meanwhile: Callable[[Path], object],
    reason: Reason,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(GOOD)

    def probe(*_: object) -> MediaInfo:
        meanwhile(path)
        raise MediaError(Reason.UNDECODABLE, "no decoder")

    monkeypatch.setattr(worker, "probe", probe)
    assert answer(str(path), hashlib.sha256(GOOD).hexdigest()).reason is reason


def test_a_failing_disk_is_reported_as_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def probe(*_: object) -> MediaInfo:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(worker, "probe", probe)
    error = answer(str(tmp_path / "film.mp4"))
    assert (error.reason, error.detail) == (
        Reason.UNREADABLE,
        "while the file was read: Input/output error",
    )


def test_importing_the_package_loads_no_codec_and_no_network_library() -> None:
    code = (
        "import sys, features, features.workers.pool;"
        "heavy = {'av', 'cv2', 'librosa', 'onnxruntime', 'torch', 'scipy'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_worker_without_audio_loads_no_audio_library() -> None:
    code = (
        "import sys, features.workers.worker;"
        "sys.exit(', '.join({'librosa', 'scipy', 'torch'} & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
