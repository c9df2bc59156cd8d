"""Packs and unpacks the messages between the pool and its workers.

A message is the length of its header (unsigned, 32 bits, little endian), the header (JSON), and the
bytes of the arrays that the header lists under ``arrays`` as [dtype, shape], in that order. The
pool does not trust a worker: a decoder in it may have been taken over by a file.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

import numpy as np

from features.arrays import AnyArray
from features.errors import MediaError, Reason
from features.results import AudioFeatures, ClipFeatures, Decoder, MediaInfo, VisualFeatures

Header = dict[str, Any]

# Bytes.
HEADER_LIMIT = 1 << 20
# Bytes; a music video of 20 minutes in segments of 10 seconds has about 15 MB.
PAYLOAD_LIMIT = 1 << 29
# Characters.
DETAIL_LIMIT = 2000
# Exceptions that untrusted JSON can cause.
_MALFORMED = (ValueError, KeyError, TypeError, OverflowError, RecursionError)
_DTYPES = ("float16", "float32", "float64")
_LENGTH = struct.Struct("<I")


class ProtocolError(Exception):
    """The bytes are not a valid message; nothing more from this sender can be read."""


def pack(header: Header, arrays: Sequence[AnyArray] = ()) -> bytes:
    """Return a message as bytes.

    Raises:
        ProtocolError: the message is larger than the limits.
    """
    listed = [[array.dtype.name, list(array.shape)] for array in arrays]
    text = json.dumps({**header, "arrays": listed}).encode()
    size = sum(array.nbytes for array in arrays)
    if len(text) > HEADER_LIMIT or size > PAYLOAD_LIMIT:
        raise ProtocolError(
            f"a header of {len(text)} bytes and arrays of {size} bytes "
            f"(at most {HEADER_LIMIT} and {PAYLOAD_LIMIT})"
        )
    return b"".join(
        [_LENGTH.pack(len(text)), text, *(np.ascontiguousarray(a).tobytes() for a in arrays)]
    )


@dataclass(frozen=True)
class _Pending:
    """A header whose arrays have not arrived completely.

    Attributes:
        header: the header.
        shapes: dtype and shape of each array.
        sizes: bytes of each array.
        start: place of the first array in the buffer.
    """

    header: Header
    shapes: list[tuple[str, tuple[int, ...]]]
    sizes: list[int]
    start: int

    @property
    def end(self) -> int:
        return self.start + sum(self.sizes)


class Unpacker:
    """Collects bytes and returns messages as they become complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._pending: _Pending | None = None

    @property
    def is_midway(self) -> bool:
        """Whether a part of a message has arrived."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> Iterator[tuple[Header, list[AnyArray]]]:
        """Add bytes and yield the messages that they complete.

        Raises:
            ProtocolError: the bytes after the messages yielded so far are not a valid message.
        """
        self._buffer += data
        while (message := self._take()) is not None:
            yield message

    def _take(self) -> tuple[Header, list[AnyArray]] | None:
        if self._pending is None:
            self._pending = self._read_header()
        pending = self._pending
        if pending is None or len(self._buffer) < pending.end:
            return None
        at = pending.start
        arrays = []
        try:
            for (dtype, shape), size in zip(pending.shapes, pending.sizes, strict=True):
                values = np.frombuffer(bytes(self._buffer[at : at + size]), dtype)
                arrays.append(values.reshape(shape))
                at += size
        except ValueError as error:
            raise ProtocolError(f"invalid arrays: {error}") from error
        del self._buffer[:at]
        self._pending = None
        return pending.header, arrays

    def _read_header(self) -> _Pending | None:
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > HEADER_LIMIT:
            raise ProtocolError(f"a header of {length} bytes")
        if len(self._buffer) < _LENGTH.size + length:
            return None
        try:
            header = json.loads(bytes(self._buffer[_LENGTH.size : _LENGTH.size + length]))
            shapes = [(str(dtype), tuple(map(int, shape))) for dtype, shape in header["arrays"]]
        except _MALFORMED as error:
            raise ProtocolError(f"an invalid header: {error}") from error
        if any(dtype not in _DTYPES or min(shape, default=0) < 0 for dtype, shape in shapes):
            raise ProtocolError(f"arrays of a dtype or shape that is not allowed: {shapes!r:.200}")
        sizes = [np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in shapes]
        if sum(sizes) > PAYLOAD_LIMIT:
            raise ProtocolError(f"arrays of {sum(sizes)} bytes")
        return _Pending(header, shapes, sizes, _LENGTH.size + length)


def read_message(stream: BinaryIO) -> Header | None:
    """Read one message without arrays from the trusted parent; None at the end of the stream."""
    length = stream.read(_LENGTH.size)
    if len(length) < _LENGTH.size:
        return None
    header: Header = json.loads(stream.read(_LENGTH.unpack(length)[0]))
    return header


def pack_result(result: MediaInfo | ClipFeatures | MediaError, *, replace: bool = False) -> bytes:
    """Return the message for a result.

    Args:
        result: the result of a job.
        replace: asks the pool to replace this worker.

    Raises:
        ProtocolError: the message is larger than the limits.
    """
    if isinstance(result, MediaInfo):
        return pack({"type": "info", "info": asdict(result), "replace": replace})
    if isinstance(result, MediaError):
        detail = result.detail[:DETAIL_LIMIT]
        return pack(
            {"type": "error", "reason": result.reason.value, "detail": detail, "replace": replace}
        )
    arrays: list[AnyArray] = []
    for visual in result.visual:
        arrays += [visual.embedding, visual.frame_times, visual.frame_embeddings]
    for audio in result.audio:
        arrays += [audio.embedding, audio.mel]
    header = {
        "type": "features",
        "visual": [(visual.decoder, visual.origin) for visual in result.visual],
        "audio": [audio.decoder for audio in result.audio],
        "cpu_seconds": result.cpu_seconds,
        "replace": replace,
    }
    return pack(header, arrays)


def unpack_result(
    header: Header, arrays: Sequence[AnyArray]
) -> MediaInfo | ClipFeatures | MediaError:
    """Return the result that a message contains.

    Raises:
        ProtocolError: the message is not a valid result.
    """
    try:
        if header["type"] == "info":
            start, end = header["info"].pop("paired")
            return MediaInfo(paired=(float(start), float(end)), **header["info"])
        if header["type"] == "error":
            # A file name may contain surrogates, which a table cannot store.
            detail = str(header["detail"])[:DETAIL_LIMIT].encode(errors="backslashreplace")
            return MediaError(Reason(header["reason"]), detail.decode())
        if header["type"] != "features":
            raise ProtocolError(f"a message of unknown type {header['type']!r}")
        left = iter(arrays)
        visual = tuple(
            VisualFeatures(next(left), next(left), next(left), Decoder(decoder), float(origin))
            for decoder, origin in header["visual"]
        )
        audio = tuple(AudioFeatures(next(left), next(left), Decoder(d)) for d in header["audio"])
        return ClipFeatures(visual, audio, float(header["cpu_seconds"]))
    except (*_MALFORMED, RuntimeError) as error:
        raise ProtocolError(f"an invalid result: {error!r:.500}") from error
