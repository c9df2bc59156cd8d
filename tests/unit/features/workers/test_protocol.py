from __future__ import annotations

import io
import json
import struct

import numpy as np
import pytest

from features.errors import MediaError, Reason
from features.results import AudioFeatures, ClipFeatures, Decoder, MediaInfo, VisualFeatures
from features.workers.protocol import (
    HEADER_LIMIT,
    ProtocolError,
    Unpacker,
    pack,
    pack_result,
    read_message,
    unpack_result,
)

INFO = MediaInfo("0" * 64, 9, 1.5, (0.0, 1.5), 64, 48, 25.0, True, False, "mp4", "h264", "")
VISUAL = VisualFeatures(
    np.arange(5, dtype=np.float32),
    np.array([0.5, 1.5]),
    np.ones((2, 3), np.float16),
    Decoder.PYAV_FULL,
    -0.25,
)
AUDIO = AudioFeatures(
    np.arange(4, dtype=np.float32), np.ones((6, 2), np.float16), Decoder.SOUNDFILE
)


def framed(text: bytes) -> bytes:
    return struct.pack("<I", len(text)) + text


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_messages_are_complete_for_any_size_of_chunks(step: int) -> None:
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros((0, 4), np.float16)]
    stream = pack({"n": 1}, arrays) + pack({"n": 2}) + pack({"n": 3}, arrays[:1])
    unpacker = Unpacker()
    found = [m for at in range(0, len(stream), step) for m in unpacker.feed(stream[at : at + step])]
    assert [header["n"] for header, _ in found] == [1, 2, 3]
    for sent, come in zip(arrays, found[0][1], strict=True):
        np.testing.assert_array_equal(sent, come)
        assert (sent.dtype, sent.shape) == (come.dtype, come.shape)


@pytest.mark.parametrize("result", [INFO, MediaError(Reason.TRUNCATED, "half of it")])
def test_a_result_is_unpacked_equal(result: MediaInfo | MediaError) -> None:
    ((header, arrays),) = Unpacker().feed(pack_result(result))
    assert str(unpack_result(header, arrays)) == str(result)


def test_features_are_unpacked_bit_equal() -> None:
    sent = ClipFeatures((VISUAL, VISUAL), (AUDIO,), 1.25)
    ((header, arrays),) = Unpacker().feed(pack_result(sent))
    come = unpack_result(header, arrays)
    assert isinstance(come, ClipFeatures)
    assert (len(come.visual), len(come.audio), come.cpu_seconds) == (2, 1, 1.25)
    assert (come.visual[1].decoder, come.audio[0].decoder) == ("pyav-full", "soundfile")
    for one, other in ((VISUAL, come.visual[1]), (AUDIO, come.audio[0])):
        for name, value in vars(one).items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(value, getattr(other, name))


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<I", HEADER_LIMIT + 1),
        framed(b"no json"),
        framed(b"[1, 2]"),
        framed(b"{}"),
        framed(json.dumps({"arrays": [["float32"]]}).encode()),
        framed(json.dumps({"arrays": [["float32", ["many"]]]}).encode()),
        framed(json.dumps({"arrays": [["object", [1]]]}).encode()),
        framed(json.dumps({"arrays": [["float32", [-1, 4]]]}).encode()),
        framed(json.dumps({"arrays": [["float64", [1 << 40]]]}).encode()),
        framed(json.dumps({"arrays": [["float64", [1 << 16, 1 << 16]]]}).encode()),
    ],
)
def test_invalid_messages_are_errors(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(Unpacker().feed(data))


@pytest.mark.parametrize(
    "header",
    [
        {"type": "secret"},
        {},
        {"type": "info", "info": {"bytes": 1}},
        {"type": "error", "reason": "no such reason", "detail": ""},
        {"type": "features", "visual": ["pyav"], "audio": [], "cpu_seconds": 0},
        {"type": "features", "visual": 3, "audio": [], "cpu_seconds": 0},
    ],
)
def test_invalid_results_are_errors(header: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        unpack_result(header, [])


def test_values_that_are_not_finite_are_errors() -> None:
    bad = pack_result(ClipFeatures((), (AUDIO,), 0.0)).replace(
        AUDIO.embedding.tobytes(), np.full(4, np.nan, np.float32).tobytes()
    )
    ((header, arrays),) = Unpacker().feed(bad)
    with pytest.raises(ProtocolError, match="finite"):
        unpack_result(header, arrays)


def test_a_reader_reads_one_message_at_a_time_up_to_the_end() -> None:
    stream = io.BytesIO(pack({"n": 1}) + pack({"n": 2}))
    assert [read_message(stream)["n"] for _ in range(2)] == [1, 2]  # type: ignore[index]
    assert read_message(stream) is None


def test_a_complete_message_before_invalid_bytes_is_yielded() -> None:
    messages = Unpacker().feed(pack({"type": "taken"}) + b"\xff" * 64)
    assert next(messages)[0]["type"] == "taken"
    with pytest.raises(ProtocolError, match="a header of 4294967295 bytes"):
        next(messages)
