from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from features.config import Limits
from features.container.media_file import MediaFile
from features.errors import MediaError, Reason
from features.video import opencv_fallback, sampling
from features.video.extractor import segment_centres
from features.video.sampling import sample_frames
from features.video.scaling import Scaler
from tests.helpers.media_kinds import KINDS, read_frame_number

Rendered = Callable[[str], Path]
NAMES = ["h264.mp4", "h264_uneven.mkv", "h264_turned_90.mp4", "vp8.webm", "mpeg4.avi"]


@pytest.mark.usefixtures("_pyav_fails")
@pytest.mark.parametrize("name", NAMES)
def test_opencv_reads_the_same_frames_at_the_same_times(name: str, rendered: Rendered) -> None:
    kind = next(kind for kind in KINDS if kind.name == name)
    times = kind.times()
    numbers: dict[int, int] = {}
    chosen: list[int] = []
    scale = Scaler(96)

    def select_pts(timeline: sampling.Timeline) -> list[int]:
        chosen[:] = [timeline.pts_at(t) for t in segment_centres((0.0, timeline.seconds), 8)]
        return chosen

    def on_frame(ticks: int, frame: av.VideoFrame) -> None:
        numbers[ticks] = read_frame_number(scale(frame))

    sampled = sample_frames(MediaFile(rendered(name)), select_pts, on_frame)
    assert sampled.decoder == "opencv"
    timeline = sampled.timeline
    assert timeline.seconds == pytest.approx(times[-1] + np.median(np.diff(times)), abs=0.06)
    centres = segment_centres((0.0, timeline.seconds), 8)
    expected = [int(np.flatnonzero(times <= t + 0.002)[-1]) for t in centres]
    assert [numbers[ticks] for ticks in chosen] == expected


@pytest.mark.usefixtures("_pyav_fails")
def test_a_file_that_neither_decodes_keeps_the_reason_of_pyav(tmp_path: Path) -> None:
    words = tmp_path / "words.mp4"
    words.write_text("no pictures at all " * 100)
    with pytest.raises(MediaError, match="no decoder") as caught:
        sample_frames(MediaFile(words), lambda _: set(), lambda *_: None)
    assert caught.value.reason is Reason.UNDECODABLE


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"frames": 59}, Reason.TOO_LONG),
        ({"seconds": 2.4}, Reason.TOO_LONG),
        ({"pixels": 192 * 112 - 1}, Reason.TOO_MANY_PIXELS),
        ({"decoded_bytes": 192 * 112 * 3}, Reason.TOO_LARGE),
    ],
)
def test_limits_hold_for_opencv(
    limits: dict[str, float], reason: Reason, rendered: Rendered
) -> None:
    with pytest.raises(MediaError) as caught:
        opencv_fallback.read_timeline(MediaFile(rendered("h264.mp4"), Limits(**limits)))
    assert caught.value.reason is reason


def test_a_frame_missing_in_the_second_reading_is_an_error(rendered: Rendered) -> None:
    with pytest.raises(MediaError, match="misses 1 frames"):
        opencv_fallback.decode(MediaFile(rendered("h264.mp4")), {-5}, lambda *_: None)


def test_frames_over_the_limit_are_refused_before_decoding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Huge:
        """A capture whose frames have ten gigapixels."""

        def isOpened(self) -> bool:  # noqa: N802
            return True

        def get(self, _: int) -> float:
            return 1e5

        def read(self) -> tuple[bool, np.ndarray]:
            raise AssertionError("decoded")

        def release(self) -> None:
            """Release nothing."""

    monkeypatch.setattr(opencv_fallback.cv2, "VideoCapture", lambda *_: Huge())
    with pytest.raises(MediaError) as caught:
        opencv_fallback.read_timeline(MediaFile(Path("huge.mp4")))
    assert caught.value.reason is Reason.TOO_MANY_PIXELS
