"""Segments of a music video: what lies in them, and that picture and sound are of one time."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from features import AudioConfig, AudioExtractor, Limits, VisualConfig, VisualExtractor
from features.container.media_file import MediaFile
from features.probe import Expected, probe
from features.sound.decode import decode_sound
from features.video.sampling import sample_frames
from tests.helpers.media_kinds import HEIGHT, RATE, WIDTH, X264, add_sound, draw_frame

Rendered = Callable[[str], Path]
PICTURES = VisualConfig(frames=6, blocks=())
BURST = 2.0


def write_burst(path: Path, picture_at: float, sound_at: float, seconds: float = 5.0) -> Path:
    """Write a film whose sound is a burst of a quarter of a second, BURST seconds into it."""
    samples = np.zeros((2, round(seconds * 48_000)), np.float32)
    loud = slice(round(BURST * 48_000), round((BURST + 0.25) * 48_000))
    samples[:, loud] = 0.5 * np.sin(np.arange(12_000) / 10)
    with av.open(str(path), "w", container_options={"avoid_negative_ts": "disabled"}) as output:
        stream = output.add_stream("libx264", rate=RATE, options=X264)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound = output.add_stream("aac", rate=48_000, layout="stereo")
        for number in range(round(seconds * RATE)):
            frame = av.VideoFrame.from_ndarray(draw_frame(number), "rgb24")
            frame.pts, frame.time_base = number + round(picture_at * RATE), Fraction(1, RATE)
            output.mux(stream.encode(frame.reformat(format="yuv420p")))
        output.mux(stream.encode(None))
        add_sound(output, sound, samples, sound_at)
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize(("picture_at", "sound_at"), [(0, 0), (0, 1.5), (1.5, 0), (7, 7.5)])
def test_picture_and_sound_of_a_segment_are_of_the_same_time(
    suffix: str, picture_at: float, sound_at: float, tmp_path: Path
) -> None:
    path = write_burst(tmp_path / f"burst.{suffix}", picture_at, sound_at)
    # Seconds from the first frame at which the burst is heard, in a segment around it.
    heard = sound_at - picture_at + BURST
    span = (heard - 0.4, heard + 0.6)
    media = MediaFile(path)
    pictures = VisualExtractor(PICTURES).extract(media, [span])[0]
    assert pictures.origin == pytest.approx(picture_at, abs=0.001)
    assert abs(pictures.frame_times - heard).max() < 0.6
    audio = AudioConfig(blocks=("log_mel",))
    (sound,) = AudioExtractor(audio).extract(media, [span], pictures.origin)
    level = sound.mel.astype(np.float32).max(axis=0)
    loud = np.flatnonzero(level > -20) * audio.hop / audio.sample_rate
    assert loud[0] == pytest.approx(0.4, abs=0.08)
    assert loud[-1] == pytest.approx(0.65, abs=0.08)


def test_before_late_sound_there_is_silence(tmp_path: Path) -> None:
    path = write_burst(tmp_path / "late.mkv", 0, 3.0)
    found = decode_sound(MediaFile(path), 22_050, 4.0, origin=0.0)
    assert len(found.samples) == 4 * 22_050
    assert not found.part(0.0, 2.9).any()
    # Numbers that lie must not fill the memory.
    short = MediaFile(path, Limits(seconds=9))
    assert decode_sound(short, 22_050, 1e6, origin=-1e9).samples.size < 20 * 22_050


@pytest.mark.parametrize(
    ("picture_at", "sound_at", "paired"),
    [(0, 0, (0, 5)), (0, 1.5, (1.5, 5)), (1.5, 0, (0, 3.5)), (0, 9, (0, 5))],
)
def test_a_probe_tells_between_which_seconds_there_are_both(
    picture_at: float, sound_at: float, paired: tuple[float, float], tmp_path: Path
) -> None:
    path = write_burst(tmp_path / "burst.mp4", picture_at, sound_at)
    assert probe(MediaFile(path), Expected.VIDEO).paired == pytest.approx(paired, abs=0.06)


@pytest.mark.parametrize("name", ["h264.mp4", "h264_b_pyramid.mkv"])
def test_the_frame_at_the_end_of_a_segment_belongs_to_the_next(
    name: str, rendered: Rendered
) -> None:
    extractor = VisualExtractor(VisualConfig(frames=3))
    spans = [(0.0, 0.5), (0.5, 1.0), (1.0, 1.5)]
    asked: list[list[int]] = []

    def select_pts(timeline):  # type: ignore[no-untyped-def]
        for plan, (_, end) in zip(extractor._plans(timeline, spans), spans, strict=True):
            asked.append(sorted(plan.all_pts()))
            assert (asked[-1][-1] - timeline.start_pts) * timeline.time_base < end
        return {timeline.start_pts}

    sample_frames(MediaFile(rendered(name)), select_pts, lambda *_: None)
    assert asked[0][-1] < asked[1][0]
    assert asked[1][-1] < asked[2][0]
