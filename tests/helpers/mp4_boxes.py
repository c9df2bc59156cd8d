"""Rewrites the index (moov) of an MP4 file: edit lists, sync samples, missing boxes.

The index must be the last box of the file, because its length changes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

ChangeBytes = Callable[[bytes], bytes]

_NESTED = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts"}


@dataclass
class Box:
    """A box of ISO/IEC 14496-12: its type, and its bytes or its inner boxes."""

    kind: bytes
    body: bytes
    inner: list[Box]

    def bytes(self) -> bytes:
        body = b"".join(box.bytes() for box in self.inner) or self.body
        return struct.pack(">I", len(body) + 8) + self.kind + body

    def find(self, *kinds: bytes) -> Box:
        box = self
        for kind in kinds:
            box = next(inner for inner in box.inner if inner.kind == kind)
        return box


def read(data: bytes) -> Box:
    """Return a box without a type whose inner boxes are those of the file."""
    found = []
    while data:
        length = int.from_bytes(data[:4])
        kind, body = data[4:8], data[8:length]
        found.append(Box(kind, body, read(body).inner if kind in _NESTED else []))
        data = data[length:]
    return Box(b"", b"", found)


def write(file: Box) -> bytes:
    return b"".join(box.bytes() for box in file.inner)


def with_edit_list(*edits: tuple[float, float | None]) -> ChangeBytes:
    """Return a change that gives the first track an edit list.

    Args:
        edits: (length, start) in seconds; the start counts from the first shown frame, None
            is an empty edit, during which nothing is shown.
    """

    def change(data: bytes) -> bytes:
        file = read(data)
        track = file.find(b"moov", b"trak")
        (clock,) = struct.unpack_from(">I", file.find(b"moov", b"mvhd").body, 12)
        (ticks,) = struct.unpack_from(">I", track.find(b"mdia", b"mdhd").body, 12)
        (delay,) = struct.unpack_from(">I", track.find(b"edts", b"elst").body, 12)
        body = struct.pack(">II", 0, len(edits))
        for length, start in edits:
            at = -1 if start is None else delay + round(start * ticks)
            body += struct.pack(">IiI", round(length * clock), at, 1 << 16)
        track.find(b"edts", b"elst").body = body
        return write(file)

    return change


def with_sync_samples(*numbers: int) -> ChangeBytes:
    """Return a change that marks these samples (counted from 1) as keyframes."""

    def change(data: bytes) -> bytes:
        file = read(data)
        body = struct.pack(f">II{len(numbers)}I", 0, len(numbers), *numbers)
        file.find(b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stss").body = body
        return write(file)

    return change


def without_boxes(*kinds: bytes) -> ChangeBytes:
    """Return a change that removes the boxes of some types from the first track."""

    def change(data: bytes) -> bytes:
        file = read(data)
        track = file.find(b"moov", b"trak")
        for box in (track, track.find(b"mdia", b"minf", b"stbl")):
            box.inner = [inner for inner in box.inner if inner.kind not in kinds]
        return write(file)

    return change


def shown_frames(
    edits: Sequence[tuple[float, float | None]], times: Sequence[float]
) -> list[tuple[int, float]]:
    """Return (number, second) of each frame that an edit list shows, by its definition."""
    found = []
    at = 0.0
    for length, start in edits:
        if start is not None:
            found += [
                (number, at + time - start)
                for number, time in enumerate(times)
                if start - 1e-6 <= time < start + length - 1e-6
            ]
        at += length
    return found
