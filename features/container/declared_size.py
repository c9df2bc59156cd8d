"""Reads from a container's own bytes how long the file should be."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import BinaryIO

# Bytes; enough for the headers at the start of a container.
_HEAD = 65_536
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
# Writers that cannot seek back leave a placeholder (ffmpeg 0xffffffff, arecord 0x80000000,
# Oboe 0x7fffffff, SoX 0x7ffff024). Sizes from here on count as unknown.
_RIFF_UNKNOWN = 0x7FFF_0000
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
# The longest Ogg page: a header of 27 bytes, 255 lengths, 255 segments of 255 bytes.
_OGG_PAGE = 27 + 255 + 255 * 255


def declared_bytes(file: BinaryIO, format_name: str) -> int:
    """Return the file size that a container declares.

    Args:
        file: the file, seekable.
        format_name: FFmpeg's name of the container format.

    Returns:
        Bytes from the start of the file, 0 if the container declares no size.
    """
    read = _READERS.get(format_name)
    return read(file) if read else 0


def incomplete_unit(file: BinaryIO, format_name: str) -> str:
    """Return the name of the unit inside which a file ends, "" if the last unit is complete.

    Ogg and fragmented MP4 declare no size of the whole file, only of each unit.
    """
    if format_name == "ogg" and _ends_inside_page(file):
        return "Ogg page"
    if "mp4" in format_name and _ends_inside_fragment(file):
        return "MP4 fragment"
    return ""


def _head(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read(_HEAD)


def _matroska(file: BinaryIO) -> int:
    """Return the end of the segment of a Matroska file (RFC 9559)."""
    head = _head(file)
    length, width = _ebml_number(head[4:12])
    at = 4 + width + length
    if not head.startswith(_EBML) or head[at : at + 4] != _SEGMENT:
        return 0
    length, width = _ebml_number(head[at + 4 : at + 12])
    return at + 4 + width + length if length else 0


def _ebml_number(data: bytes) -> tuple[int, int]:
    """Return (value, bytes used) of an EBML number (RFC 8794); the value 0 means unknown."""
    width = 9 - data[0].bit_length() if data else 1
    value = int.from_bytes(data[:width]) & ((1 << 7 * width) - 1)
    return (0 if value == (1 << 7 * width) - 1 else value), width


def _riff(file: BinaryIO) -> int:
    """Return the end of the last RIFF chunk; a long AVI has several (OpenDML)."""
    end = 0
    while True:
        file.seek(end)
        head = file.read(8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] != b"RIFF" or len(head) < 8:
            return end
        if length > _RIFF_UNKNOWN:
            return 0
        end += 8 + length


def _w64(file: BinaryIO) -> int:
    """Return the size field of a Wave64 file, which follows the first identifier."""
    size = int.from_bytes(_head(file)[16:24], "little")
    return size if size < 1 << 62 else 0


def _caf(file: BinaryIO) -> int:
    """Return the end of the audio chunk of a Core Audio file; -1 means unknown there."""
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
    """Return ``filesize`` in an FLV's ``onMetaData``; live recordings leave it out."""
    _, key, rest = _head(file).partition(b"\0\x08filesize\0")
    if not key or len(rest) < 8:
        return 0
    (size,) = struct.unpack(">d", rest[:8])
    return int(size) if 0 < size < 1 << 62 else 0


def _asf(file: BinaryIO) -> int:
    """Return the file size in the ASF properties; a broadcast (first flag) has none."""
    _, found, properties = _head(file).partition(_ASF_PROPERTIES)
    if not found or len(properties) < 76 or properties[72] & 1:
        return 0
    return int.from_bytes(properties[24:32], "little")


_READERS: dict[str, Callable[[BinaryIO], int]] = {
    "matroska,webm": _matroska,
    "avi": _riff,
    "wav": _riff,
    "w64": _w64,
    "caf": _caf,
    "flv": _flv,
    "asf": _asf,
}


def _ends_inside_page(file: BinaryIO) -> bool:
    """Return whether the last page of an Ogg file (RFC 3533) is incomplete."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 2 * _OGG_PAGE))
    tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS\0")) :]
    return len(page) < 27 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])


def _ends_inside_fragment(file: BinaryIO) -> bool:
    """Return whether the last box of a fragmented MP4 (ISO/IEC 14496-12) is incomplete."""
    size = file.seek(0, os.SEEK_END)
    at, fragmented = 0, False
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4])
        if length == 1:
            length = int.from_bytes(head[8:])
        if length < 8:
            # A box of length 0 reaches to the end of the file; other lengths are invalid.
            return False
        fragmented |= head[4:8] == b"moof"
        at += length
    return fragmented and at > size
