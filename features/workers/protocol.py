"""Messages between the pool and its workers: a JSON header, then raw arrays.

A message is a length (unsigned 32 bit, little endian), a header of that many bytes and
the arrays that the header lists under ``arrays`` as [dtype, shape], one after the other.
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

HEADER_LIMIT = 1 << 20
# A music video of twenty minutes in segments of ten seconds has some fifteen megabytes.
PAYLOAD_LIMIT = 1 << 29
DETAIL_LIMIT = 2000
# What reading JSON of somebody else's making can raise.
_MALFORMED = (ValueError, KeyError, TypeError, OverflowError, RecursionError)
_DTYPES = ("float16", "float32", "float64")
_LENGTH = struct.Struct("<I")


class WireError(Exception):
    """What came is no message; the sender is not to be trusted any more."""


def pack(header: Header, arrays: Sequence[AnyArray] = ()) -> bytes:
    """Return one message as bytes.

    Raises:
        WireError: it is larger than a message may be.
    """
    listed = [[array.dtype.name, list(array.shape)] for array in arrays]
    text = json.dumps({**header, "arrays": listed}).encode()
    size = sum(array.nbytes for array in arrays)
    if len(text) > HEADER_LIMIT or size > PAYLOAD_LIMIT:
        raise WireError(
            f"a header of {len(text)} bytes and arrays of {size}, "
            f"{HEADER_LIMIT} and {PAYLOAD_LIMIT} are allowed"
        )
    return b"".join(
        [_LENGTH.pack(len(text)), text, *(np.ascontiguousarray(a).tobytes() for a in arrays)]
    )


@dataclass(frozen=True)
class _Announced:
    """A header that has come, and the arrays that follow it."""

    header: Header
    shapes: list[tuple[str, tuple[int, ...]]]
    sizes: list[int]
    start: int

    @property
    def end(self) -> int:
        return self.start + sum(self.sizes)


class Unpacker:
    """Takes bytes as they come and returns the messages that are complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._announced: _Announced | None = None

    @property
    def is_midway(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> Iterator[tuple[Header, list[AnyArray]]]:
        """Add bytes; yield the messages completed by them.

        Raises:
            WireError: what follows the messages yielded so far cannot be one.
        """
        self._buffer += data
        while (message := self._take()) is not None:
            yield message

    def _take(self) -> tuple[Header, list[AnyArray]] | None:
        if self._announced is None:
            self._announced = self._read_header()
        announced = self._announced
        if announced is None or len(self._buffer) < announced.end:
            return None
        at = announced.start
        arrays = []
        try:
            for (dtype, shape), size in zip(announced.shapes, announced.sizes, strict=True):
                values = np.frombuffer(bytes(self._buffer[at : at + size]), dtype)
                arrays.append(values.reshape(shape))
                at += size
        except ValueError as error:
            raise WireError(f"arrays that cannot be: {error}") from error
        del self._buffer[:at]
        self._announced = None
        return announced.header, arrays

    def _read_header(self) -> _Announced | None:
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > HEADER_LIMIT:
            raise WireError(f"a header of {length} bytes")
        if len(self._buffer) < _LENGTH.size + length:
            return None
        try:
            header = json.loads(bytes(self._buffer[_LENGTH.size : _LENGTH.size + length]))
            shapes = [(str(dtype), tuple(map(int, shape))) for dtype, shape in header["arrays"]]
        except _MALFORMED as error:
            raise WireError(f"a header that is no JSON of ours: {error}") from error
        if any(dtype not in _DTYPES or min(shape, default=0) < 0 for dtype, shape in shapes):
            raise WireError(f"arrays that are not allowed: {shapes!r:.200}")
        sizes = [np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in shapes]
        if sum(sizes) > PAYLOAD_LIMIT:
            raise WireError(f"arrays of {sum(sizes)} bytes")
        return _Announced(header, shapes, sizes, _LENGTH.size + length)


def read_message(stream: BinaryIO) -> Header | None:
    """Read one message without arrays; None at the end of the stream."""
    length = stream.read(_LENGTH.size)
    if len(length) < _LENGTH.size:
        return None
    header: Header = json.loads(stream.read(_LENGTH.unpack(length)[0]))
    return header


def pack_result(result: MediaInfo | ClipFeatures | MediaError, *, worn: bool = False) -> bytes:
    """Return the message for what a job gave; a ``worn`` worker asks to be replaced.

    Raises:
        WireError: it is larger than a message may be.
    """
    if isinstance(result, MediaInfo):
        return pack({"type": "info", "info": asdict(result), "worn": worn})
    if isinstance(result, MediaError):
        detail = result.detail[:DETAIL_LIMIT]
        return pack(
            {"type": "error", "reason": result.reason.value, "detail": detail, "worn": worn}
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
        "worn": worn,
    }
    return pack(header, arrays)


def unpack_result(
    header: Header, arrays: Sequence[AnyArray]
) -> MediaInfo | ClipFeatures | MediaError:
    """Return what a job gave.

    Raises:
        WireError: the message is none of the three kinds, or its parts do not fit.
    """
    try:
        if header["type"] == "info":
            start, end = header["info"].pop("paired")
            return MediaInfo(paired=(float(start), float(end)), **header["info"])
        if header["type"] == "error":
            # A file's name may hold what is no Unicode, and no table takes that.
            detail = str(header["detail"])[:DETAIL_LIMIT].encode(errors="backslashreplace")
            return MediaError(Reason(header["reason"]), detail.decode())
        if header["type"] != "features":
            raise WireError(f"a message of type {header['type']!r}")
        left = iter(arrays)
        visual = tuple(
            VisualFeatures(next(left), next(left), next(left), Decoder(decoder), float(origin))
            for decoder, origin in header["visual"]
        )
        audio = tuple(AudioFeatures(next(left), next(left), Decoder(d)) for d in header["audio"])
        return ClipFeatures(visual, audio, float(header["cpu_seconds"]))
    except (*_MALFORMED, RuntimeError) as error:
        raise WireError(f"a result that does not fit: {error!r:.500}") from error
