"""How far a file goes by what its own container says in bytes."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import BinaryIO

# Enough for the headers of a container, which come first.
_HEAD = 65_536
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
# Writers that cannot go back leave the largest number (ffmpeg 0xffffffff, arecord 0x80000000,
# Oboe 0x7fffffff, SoX 0x7ffff024): about as much, or more, tells nothing.
_RIFF_UNTOLD = 0x7FFF_0000
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
# The longest Ogg page: a header of 27 bytes, 255 lengths, 255 segments of 255 bytes.
_OGG_PAGE = 27 + 255 + 255 * 255


def promised_bytes(file: BinaryIO, container: str) -> int:
    """Return how long a container (ffmpeg's name) says that it is, 0 where it does not say."""
    return _PROMISES[container](file) if container in _PROMISES else 0


def ends_inside(file: BinaryIO, container: str) -> str:
    """Return the name of the unit that a file ends inside of, "" where it does not."""
    if container == "ogg" and _ends_inside_a_page(file):
        return "Ogg page"
    if "mp4" in container and _ends_inside_a_fragment(file):
        return "MP4 fragment"
    return ""


def _head(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read(_HEAD)


def _matroska(file: BinaryIO) -> int:
    """Return where the segment of a Matroska file (RFC 9559) ends."""
    head = _head(file)
    length, width = _number(head[4:12])
    at = 4 + width + length
    if not head.startswith(_EBML) or head[at : at + 4] != _SEGMENT:
        return 0
    length, width = _number(head[at + 4 : at + 12])
    return at + 4 + width + length if length else 0


def _number(data: bytes) -> tuple[int, int]:
    """Return an EBML number (RFC 8794), 0 where it says "unknown", and how many bytes it takes."""
    width = 9 - data[0].bit_length() if data else 1
    value = int.from_bytes(data[:width]) & ((1 << 7 * width) - 1)
    return (0 if value == (1 << 7 * width) - 1 else value), width


def _riff(file: BinaryIO) -> int:
    """Return where the last of the RIFF chunks ends; a long AVI has several (OpenDML)."""
    end = 0
    while True:
        file.seek(end)
        head = file.read(8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] != b"RIFF" or len(head) < 8:
            return end
        if length > _RIFF_UNTOLD:
            return 0
        end += 8 + length


def _w64(file: BinaryIO) -> int:
    """Return the size that stands behind the first identifier of a Wave64 file."""
    size = int.from_bytes(_head(file)[16:24], "little")
    return size if size < 1 << 62 else 0


def _caf(file: BinaryIO) -> int:
    """Return where the chunk of sound in a Core Audio file ends; -1 is its "unknown"."""
    at = 8
    while True:
        file.seek(at)
        head = file.read(12)
        length = int.from_bytes(head[4:], signed=True)
        if len(head) < 12 or length < 0:
            return 0
        at += 12 + length
        if head[:4] == b"data":
            return at


def _flv(file: BinaryIO) -> int:
    """Return ``filesize`` of an FLV's ``onMetaData``, which whoever records live leaves out."""
    _, key, rest = _head(file).partition(b"\0\x08filesize\0")
    if not key or len(rest) < 8:
        return 0
    (size,) = struct.unpack(">d", rest[:8])
    return int(size) if 0 < size < 1 << 62 else 0


def _asf(file: BinaryIO) -> int:
    """Return the file's size in the properties of ASF; a broadcast (first flag) has none."""
    _, found, properties = _head(file).partition(_ASF_PROPERTIES)
    if not found or len(properties) < 76 or properties[72] & 1:
        return 0
    return int.from_bytes(properties[24:32], "little")


_PROMISES: dict[str, Callable[[BinaryIO], int]] = {
    "matroska,webm": _matroska,
    "avi": _riff,
    "wav": _riff,
    "w64": _w64,
    "caf": _caf,
    "flv": _flv,
    "asf": _asf,
}


def _ends_inside_a_page(file: BinaryIO) -> bool:
    """Return whether the last page of an Ogg file (RFC 3533) is longer than what is left."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 2 * _OGG_PAGE))
    tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS\0")) :]
    return len(page) < 27 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])


def _ends_inside_a_fragment(file: BinaryIO) -> bool:
    """Return whether the last box of a fragmented MP4 (ISO/IEC 14496-12) goes past the end."""
    size = file.seek(0, os.SEEK_END)
    at, fragmented = 0, False
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4])
        if length == 1:
            length = int.from_bytes(head[8:])
        if length < 8:
            # 0 is a box that goes to the end, the others are none.
            return False
        fragmented |= head[4:8] == b"moof"
        at += length
    return fragmented and at > size
