"""A TensorFlow checkpoint, written here by its format, is read without TensorFlow."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from tools.tensorbundle import read_bundle

FLOAT, INT32 = 1, 3
UNCOMPRESSED, SNAPPY = 0, 1


def varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def entry(kind: int, shape: tuple[int, ...], offset: int, size: int) -> bytes:
    """Encode a BundleEntryProto; protocol buffers leave out zeros."""
    sizes = b"".join(field(2, field(1, length)) for length in shape)
    crc32c = varint(6 << 3 | 5) + b"\1\2\3\4"
    return (
        field(1, kind)
        + field(2, sizes)
        + (field(4, offset) if offset else b"")
        + field(5, size)
        + crc32c
    )


def block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """Encode a block of a LevelDB table; a key shares a prefix with the key before it."""
    content, before = b"", b""
    for key, value in entries:
        shared = 0
        while shared < min(len(key), len(before)) and key[shared] == before[shared]:
            shared += 1
        rest = key[shared:]
        content += varint(shared) + varint(len(rest)) + varint(len(value)) + rest + value
        before = key
    return content + struct.pack("<II", 0, 1)


def index_file(entries: list[tuple[bytes, bytes]], compression: int = UNCOMPRESSED) -> bytes:
    trailer = bytes([compression]) + b"crc!"
    data = block(entries)
    handle = varint(0) + varint(len(data))
    index = block([(b"~", handle)])
    index_handle = varint(len(data) + len(trailer)) + varint(len(index))
    footer = (varint(0) + varint(0) + index_handle).ljust(40, b"\0") + b"8 magic."
    return data + trailer + index + trailer + footer


def test_float_tensors_are_read_by_name_with_shape() -> None:
    kernel = np.arange(200, dtype="<f4").reshape(2, 100)
    bias = np.array([0.5, -1.5], "<f4")
    step = np.array([7], "<i4")
    values = kernel.tobytes() + step.tobytes() + bias.tobytes()
    index = index_file(
        [
            (b"", field(1, 1)),
            (b"dense/bias", entry(FLOAT, (2,), 804, 8)),
            (b"dense/kernel", entry(FLOAT, (2, 100), 0, 800)),
            (b"step", entry(INT32, (1,), 800, 4)),
        ]
    )
    found = read_bundle(index, values)
    assert list(found) == ["dense/bias", "dense/kernel"]
    np.testing.assert_array_equal(found["dense/bias"], bias)
    np.testing.assert_array_equal(found["dense/kernel"], kernel)


def test_a_compressed_index_is_refused() -> None:
    index = index_file([(b"bias", entry(FLOAT, (1,), 0, 4))], SNAPPY)
    with pytest.raises(ValueError, match="compressed"):
        read_bundle(index, bytes(4))
