"""Reads a TensorFlow checkpoint without TensorFlow.

A checkpoint is two files: an index, which is a LevelDB table of protocol buffers, and the
concatenated values. Format: tensorflow/core/util/tensor_bundle/tensor_bundle.h and
tensorflow/core/lib/io/format.h of the TensorFlow sources, version 1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

_FOOTER_BYTES = 48
_FLOAT = 1
# Wire types of a protocol buffer: integers and bytes; bytes per value of the fixed-size types.
_VARIABLE = (0, 2)
_FIXED = {1: 8, 5: 4}


def read_bundle(index: bytes, values: bytes) -> dict[str, npt.NDArray[np.float32]]:
    """Return the float32 tensors of a checkpoint with one shard, by name.

    Tensors of other types are left out.

    Args:
        index: content of the .index file.
        values: content of the .data-00000-of-00001 file.

    Raises:
        ValueError: the index is compressed.
    """
    footer = index[-_FOOTER_BYTES:]
    _, at = _varint(footer, 0)
    _, at = _varint(footer, at)
    found = {}
    for _, handle in _block(index, footer[at:]):
        for name, entry in _block(index, handle):
            # The entry with an empty name is the header of the bundle.
            if name and _number(entry, field=1) == _FLOAT:
                start, size = _number(entry, field=4), _number(entry, field=5)
                tensor = np.frombuffer(values[start : start + size], "<f4")
                found[name.decode()] = tensor.reshape(_shape(entry))
    return found


def _shape(entry: bytes) -> list[int]:
    """Return the shape of a BundleEntryProto: field 2, a message with one field 2 per size."""
    (shape,) = (part for field, _, part in _message(entry) if field == 2)
    return [_number(size, field=1) for field, _, size in _message(shape) if field == 2]


def _number(message: bytes, field: int) -> int:
    """Return an integer field; a missing field is 0."""
    return next((number for found, number, _ in _message(message) if found == field), 0)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the integer at a position, and the position after it."""
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


def _block(index: bytes, handle: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of the block at a handle (position, size)."""
    start, at = _varint(handle, 0)
    size, _ = _varint(handle, at)
    if index[start + size] != 0:
        raise ValueError("the index is compressed")
    block = index[start : start + size]
    (restarts,) = struct.unpack("<I", block[-4:])
    at, end, key = 0, size - 4 - 4 * restarts, b""
    while at < end:
        # A key is stored as the length of the prefix it shares with the previous key, and the rest.
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + own]
        at += own
        yield key, block[at : at + length]
        at += length


def _message(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield the fields of a protocol buffer: field number, integer value, bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind, number, length = tag & 7, 0, 0
        if kind in _VARIABLE:
            # An integer value, or the length of the bytes that follow.
            number, at = _varint(data, at)
            length = number if kind == 2 else 0
        else:
            length = _FIXED[kind]
        yield tag >> 3, number, data[at : at + length]
        at += length
