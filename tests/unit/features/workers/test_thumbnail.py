from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import pytest

from features import Limits, MediaError, MediaFile, Reason
from features.workers import thumbnail as thumbnails
from features.workers.thumbnail import WIDTH, thumbnail
from tests.helpers.media_kinds import read_frame_number

Rendered = Callable[[str], Path]


@pytest.mark.parametrize("name", ["h264.mp4", "h264_turned_90.mp4", "mpeg4.avi"])
def test_a_thumbnail_is_the_upright_middle_frame(name: str, rendered: Rendered) -> None:
    jpeg = thumbnails._middle_frame(MediaFile(rendered(name)))
    codec = av.CodecContext.create("mjpeg", "r")
    (frame,) = codec.decode(av.Packet(jpeg))
    image = frame.to_ndarray(format="rgb24")
    assert image.shape == (round(WIDTH * 112 / 192), WIDTH, 3)
    assert abs(read_frame_number(image) - 30) <= 1


def test_a_thumbnail_is_made_in_a_confined_process(rendered: Rendered, tmp_path: Path) -> None:
    assert thumbnail(rendered("h264.mp4"), Limits()).startswith(b"\xff\xd8")
    words = tmp_path / "words.mp4"
    words.write_text("no pictures")
    with pytest.raises(MediaError, match="unsupported_container"):
        thumbnail(words, Limits())
    with pytest.raises(MediaError) as caught:
        thumbnail(rendered("h264.mp4"), Limits(wall_seconds=0.05))
    assert caught.value.reason is Reason.TIMED_OUT
