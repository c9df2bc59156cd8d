from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import pytest

from features.video.keyframes import RandomAccessDetector

SEQUENCE = b"\0\0\1\xb3 size, rate, matrices"
PICTURE = b"\0\0\1\0 a picture"


def packet(data: bytes, *, keyframe: bool = True) -> av.Packet:
    made = av.Packet(data)
    made.is_keyframe = keyframe
    return made


def random_access(codec: str, *packets: av.Packet) -> list[bool]:
    is_random_access = RandomAccessDetector(av.CodecContext.create(codec, "r"))  # type: ignore[arg-type]
    return [is_random_access(one) for one in packets]


def test_keyframes_are_random_access_points_and_so_are_all_intra_only_frames() -> None:
    packets = (packet(b"\0\1"), packet(b"\0\1", keyframe=False))
    assert random_access("vp9", *packets) == [True, False]
    assert random_access("mjpeg", *packets) == [True, True]


@pytest.mark.parametrize("codec", ["ffv1", "qtrle", "svq3", "vc1", "gif"])
def test_a_codec_whose_decoder_marks_no_keyframes_has_no_random_access(codec: str) -> None:
    assert random_access(codec, packet(b"\0\1")) == [False]


@pytest.mark.parametrize("codec", ["mpeg1video", "mpeg2video"])
def test_mpeg_has_random_access_at_sequence_headers(codec: str) -> None:
    assert random_access(codec, packet(SEQUENCE + PICTURE), packet(PICTURE)) == [True, False]


@pytest.mark.parametrize("name", ["mpeg4_trimmed.mp4", "h263_trimmed.3gp"])
def test_a_hidden_keyframe_is_no_random_access_point(
    name: str, rendered: Callable[[str], Path]
) -> None:
    with av.open(str(rendered(name))) as container:
        stream = container.streams.video[0]
        first = next(container.demux(stream))
        assert first.is_keyframe
        assert first.is_discard
        assert not RandomAccessDetector(stream.codec_context)(first)


def test_there_is_no_random_access_after_parameters_change() -> None:
    first, other, idr = b"\0\0\1\x67\1\2", b"\0\0\1\x67\3\4", b"\0\0\1\x65\5\6"
    assert (
        random_access("h264", packet(first + idr), packet(idr), packet(first + idr)) == [True] * 3
    )
    found = random_access("h264", packet(first + idr), packet(other + idr), packet(first + idr))
    assert found == [True, False, False]
    layer, same = b"\0\0\1\x20\1\2", b"\0\0\1\xb6\1\2"
    assert random_access("mpeg4", packet(layer + same), packet(same)) == [True, True]
    assert random_access("mpeg4", packet(same), packet(layer + same)) == [True, False]
