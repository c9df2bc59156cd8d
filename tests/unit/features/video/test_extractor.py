from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from features import AudioConfig, AudioExtractor, MediaFile, VisualConfig, VisualExtractor
from features.video.sampling import sample_frames
from tests.helpers.odd_streams import BURST, write_burst

Rendered = Callable[[str], Path]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize(("video_start", "audio_start"), [(0, 0), (0, 1.5), (1.5, 0), (7, 7.5)])
def test_video_and_audio_of_a_segment_cover_the_same_time(
    suffix: str, video_start: float, audio_start: float, tmp_path: Path
) -> None:
    path = write_burst(tmp_path / f"burst.{suffix}", video_start, audio_start)
    # Seconds from the first frame; the span is around the burst.
    burst = audio_start - video_start + BURST
    span = (burst - 0.4, burst + 0.6)
    media = MediaFile(path)
    (video,) = VisualExtractor(VisualConfig(frames=6, blocks=())).extract(media, [span])
    assert video.origin == pytest.approx(video_start, abs=0.001)
    assert abs(video.frame_times - burst).max() < 0.6
    config = AudioConfig(blocks=("log_mel",))
    (audio,) = AudioExtractor(config).extract(media, [span], video.origin)
    level = audio.mel.astype(np.float32).max(axis=0)
    loud = np.flatnonzero(level > -20) * config.hop / config.sample_rate
    assert loud[0] == pytest.approx(0.4, abs=0.08)
    assert loud[-1] == pytest.approx(0.65, abs=0.08)


@pytest.mark.parametrize("name", ["h264.mp4", "h264_b_pyramid.mkv"])
def test_the_frame_that_appears_at_the_end_of_a_segment_belongs_to_the_next(
    name: str, rendered: Rendered
) -> None:
    extractor = VisualExtractor(VisualConfig(frames=3))
    spans = [(0.0, 0.5), (0.5, 1.0), (1.0, 1.5)]
    planned: list[list[int]] = []

    def select_pts(timeline):  # type: ignore[no-untyped-def]
        for plan, (_, end) in zip(extractor._plans(timeline, spans), spans, strict=True):
            planned.append(sorted(plan.all_pts()))
            assert (planned[-1][-1] - timeline.start_pts) * timeline.time_base < end
        return {timeline.start_pts}

    sample_frames(MediaFile(rendered(name)), select_pts, lambda *_: None)
    assert planned[0][-1] < planned[1][0]
    assert planned[1][-1] < planned[2][0]


@pytest.mark.usefixtures("_pyav_fails")
def test_features_record_their_decoder(rendered: Rendered) -> None:
    extractor = VisualExtractor(VisualConfig(frames=2, blocks=()))
    (found,) = extractor.extract(MediaFile(rendered("h264.mp4")))
    assert found.decoder == "opencv"
    assert found.frame_times == pytest.approx([15 / 24, 45 / 24], abs=0.05)
