"""Messages between the pool and its workers: a JSON header, then raw arrays.

A message is a length (unsigned 32 bit, little endian), a header of that many bytes and
the arrays that the header lists under ``arrays`` as [dtype, shape], one after the other.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from features.errors import MediaError, Reason
from features.results import AudioFeatures, ClipFeatures, MediaInfo, VisualFeatures

Array = npt.NDArray[Any]
Header = dict[str, Any]

HEADER_LIMIT = 1 << 20
PAYLOAD_LIMIT = 1 << 31
_DTYPES = ("float16", "float32", "float64")
_LENGTH = struct.Struct("<I")


class WireError(Exception):
    """What came is no message; the sender is not to be trusted any more."""


def pack(header: Header, arrays: Sequence[Array] = ()) -> bytes:
    """Return one message as bytes."""
    listed = [[array.dtype.name, list(array.shape)] for array in arrays]
    text = json.dumps({**header, "arrays": listed}).encode()
    return b"".join(
        [_LENGTH.pack(len(text)), text, *(np.ascontiguousarray(a).tobytes() for a in arrays)]
    )


class Unpacker:
    """Takes bytes as they come and returns the messages that are complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[Header, list[Array]]]:
        """Add bytes; return the messages completed by them.

        Raises:
            WireError: the bytes cannot be a message.
        """
        self._buffer += data
        messages = []
        while (message := self._take()) is not None:
            messages.append(message)
        return messages

    def _take(self) -> tuple[Header, list[Array]] | None:
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > HEADER_LIMIT:
            raise WireError(f"a header of {length} bytes")
        if len(self._buffer) < _LENGTH.size + length:
            return None
        at = _LENGTH.size + length
        try:
            header = json.loads(bytes(self._buffer[_LENGTH.size : at]))
            shapes = [(str(dtype), tuple(map(int, shape))) for dtype, shape in header["arrays"]]
        except (ValueError, KeyError, TypeError) as error:
            raise WireError(f"a header that is no JSON of ours: {error}") from error
        if any(dtype not in _DTYPES or min(shape, default=0) < 0 for dtype, shape in shapes):
            raise WireError(f"arrays that are not allowed: {shapes}")
        sizes = [np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in shapes]
        if sum(sizes) > PAYLOAD_LIMIT:
            raise WireError(f"arrays of {sum(sizes)} bytes")
        if len(self._buffer) < at + sum(sizes):
            return None
        arrays = []
        for (dtype, shape), size in zip(shapes, sizes, strict=True):
            arrays.append(np.frombuffer(bytes(self._buffer[at : at + size]), dtype).reshape(shape))
            at += size
        del self._buffer[:at]
        return header, arrays


def read_message(stream: BinaryIO) -> Header | None:
    """Read one message without arrays; None at the end of the stream."""
    length = stream.read(_LENGTH.size)
    if len(length) < _LENGTH.size:
        return None
    header: Header = json.loads(stream.read(_LENGTH.unpack(length)[0]))
    return header


def pack_result(result: MediaInfo | ClipFeatures | MediaError) -> bytes:
    """Return the message for what a job gave."""
    if isinstance(result, MediaInfo):
        return pack({"type": "info", "info": asdict(result)})
    if isinstance(result, MediaError):
        return pack({"type": "error", "reason": result.reason.value, "detail": result.detail})
    arrays: list[Array] = []
    for visual in result.visual:
        arrays += [visual.embedding, visual.frame_times, visual.frame_embeddings]
    for audio in result.audio:
        arrays += [audio.embedding, audio.mel]
    header = {
        "type": "features",
        "visual": [(visual.decoder, visual.origin) for visual in result.visual],
        "audio": [audio.decoder for audio in result.audio],
        "cpu_seconds": result.cpu_seconds,
    }
    return pack(header, arrays)


def unpack_result(header: Header, arrays: Sequence[Array]) -> MediaInfo | ClipFeatures | MediaError:
    """Return what a job gave.

    Raises:
        WireError: the message is none of the three kinds, or its parts do not fit.
    """
    try:
        if header["type"] == "info":
            start, end = header["info"].pop("paired")
            return MediaInfo(paired=(float(start), float(end)), **header["info"])
        if header["type"] == "error":
            return MediaError(Reason(header["reason"]), str(header["detail"]))
        if header["type"] != "features":
            raise WireError(f"a message of type {header['type']!r}")
        left = iter(arrays)
        visual = tuple(
            VisualFeatures(next(left), next(left), next(left), str(decoder), float(origin))
            for decoder, origin in header["visual"]
        )
        audio = tuple(AudioFeatures(next(left), next(left), str(d)) for d in header["audio"])
        return ClipFeatures(visual, audio, float(header["cpu_seconds"]))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WireError(f"a result that does not fit: {error!r}") from error
