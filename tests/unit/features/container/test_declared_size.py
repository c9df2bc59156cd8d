from __future__ import annotations

import struct
from pathlib import Path

import pytest

from features import Limits, MediaError, Reason
from features.container.truncation import check_file_end
from tests.helpers.media_kinds import tone


def riff(size: int, data: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", size) + data


def flv(size: float) -> bytes:
    return b"FLV\1\0\x08filesize\0" + struct.pack(">d", size)


def asf(size: int, flags: int) -> bytes:
    identifier = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
    return bytes(30) + identifier + struct.pack("<Q16xQ40xI", 104, size, flags) + bytes(12)


def caf(size: int) -> bytes:
    chunks = b"desc" + struct.pack(">q", 32) + bytes(32) + b"data" + struct.pack(">q", size)
    return b"caff\0\1\0\0" + chunks


@pytest.mark.parametrize(
    ("size", "refused"),
    [
        (b"\x81", False),  # one byte
        (b"\xff", False),  # unknown
        (b"\x01\xff\xff\xff\xff\xff\xff\xff", False),  # unknown, as live recordings write it
        (b"\x01\x00\x00\x00\x00\x00\x00\x64", False),  # 100 bytes
        (b"\x01\x00\x00\x00\x00\x00\x00\xc8", True),  # 200 bytes
        (b"\x40\xc8", True),  # the same, shorter
        (b"", False),
        (b"\x00", False),
    ],
)
def test_the_size_of_a_matroska_segment_is_read(tmp_path: Path, size: bytes, refused: bool) -> None:
    path = tmp_path / "it.mkv"
    head = b"\x1a\x45\xdf\xa3\x84" + bytes(4) + b"\x18\x53\x80\x67" + size
    path.write_bytes(head + bytes(100 if len(size) > 0 and size != b"\x00" else 0))
    if refused:
        with pytest.raises(MediaError, match=r"4\d% of"):
            check_file_end(path, "matroska,webm", Limits())
    else:
        check_file_end(path, "matroska,webm", Limits())


@pytest.mark.parametrize(
    ("container", "data", "refused"),
    [
        ("wav", riff(92, bytes(92)), False),
        ("wav", riff(192, bytes(92)), True),
        ("avi", riff(42, bytes(42)) + riff(42, bytes(42)), False),
        (
            "avi",
            riff(42, bytes(42)) + riff(142, bytes(42)),
            True,
        ),  # OpenDML, cut in the second chunk
        ("wav", riff(92, bytes(92)) + b"TAG" + bytes(125), False),
        ("wav", riff(0, bytes(92)), False),
        *[("wav", riff(size, bytes(92)), False) for size in (0x7FFFF024, 1 << 31, 0xFFFFFFFF)],
        ("flv", flv(22) + bytes(2), False),
        ("flv", flv(44) + bytes(2), True),
        *[("flv", flv(size), False) for size in (0.0, -1.0, float("nan"), float("inf"))],
        ("flv", flv(22)[:-4], False),
        ("asf", asf(134, 2), False),
        ("asf", asf(268, 2), True),
        ("asf", asf(268, 3), False),  # a broadcast
        ("asf", asf(268, 2)[:110], False),
        ("w64", b"riff" + bytes(12) + struct.pack("<Q", 24), False),
        ("w64", b"riff" + bytes(12) + struct.pack("<Q", 48), True),
        ("w64", b"riff" + bytes(12) + b"\xff" * 8, False),
        ("caf", caf(50) + bytes(50), False),
        ("caf", caf(150) + bytes(50), True),
        ("caf", caf(-1) + bytes(50), False),
        ("caf", caf(0) + bytes(50), False),
        ("caf", caf(50)[:-12], False),
        ("caf", b"caff\0\1\0\0" + (b"desc" + struct.pack(">q", -12)) * 9, False),
    ],
)
def test_declared_sizes_count_unless_they_are_placeholders(
    tmp_path: Path, container: str, data: bytes, refused: bool
) -> None:
    path = tmp_path / "it"
    path.write_bytes(data)
    if refused:
        with pytest.raises(MediaError) as error:
            check_file_end(path, container, Limits())
        assert error.value.reason is Reason.TRUNCATED
    else:
        check_file_end(path, container, Limits())


def test_a_file_without_the_expected_header_declares_no_size(tmp_path: Path) -> None:
    path = tmp_path / "it.mkv"
    path.write_bytes(tone(0.1, 8000).tobytes())
    check_file_end(path, "matroska,webm", Limits())
