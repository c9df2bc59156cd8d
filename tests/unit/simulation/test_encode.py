"""Media files of the simulation: length, content, and equal bytes on every run."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from simulation.encode import (
    PICTURE_FORMATS,
    SAMPLE_RATE,
    SOUND_FORMATS,
    write_sound,
    write_video,
)

SECONDS = 2.0


@pytest.fixture
def tone() -> np.ndarray:
    time = np.arange(round(SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    return np.stack([0.4 * np.sin(2 * np.pi * 440 * time)] * 2).astype(np.float32)


def _ramp(count: int) -> list[np.ndarray]:
    return [np.full((64, 96, 3), (40 + 4 * i, 120, 200 - 4 * i), np.uint8) for i in range(count)]


@pytest.mark.parametrize("extension", sorted(SOUND_FORMATS))
def test_sound_keeps_length_and_pitch(extension: str, tone: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / f"tone.{extension}"
    write_sound(path, tone)
    with av.open(str(path)) as container:
        rate = container.streams.audio[0].rate
        assert "creation_time" not in container.metadata
        decoded = list(container.decode(audio=0))
    assert sum(frame.samples for frame in decoded) / rate == pytest.approx(SECONDS, abs=0.1)
    frames = [frame.to_ndarray() for frame in decoded]
    middle = frames[len(frames) // 2].astype(np.float64)
    left = middle[0] if middle.shape[0] == 2 else middle[0, ::2]
    spectrum = np.abs(np.fft.rfft(left * np.hanning(left.size)))
    loudest = spectrum.argmax() * rate / left.size
    assert loudest == pytest.approx(440, abs=rate / left.size)


@pytest.mark.parametrize("extension", sorted(SOUND_FORMATS))
def test_sound_has_the_same_bytes_again(extension: str, tone: np.ndarray, tmp_path: Path) -> None:
    first, second = tmp_path / f"a.{extension}", tmp_path / f"b.{extension}"
    write_sound(first, tone)
    write_sound(second, tone)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("extension", sorted(PICTURE_FORMATS))
def test_video_keeps_frames_and_colours(extension: str, tone: np.ndarray, tmp_path: Path) -> None:
    path, again = tmp_path / f"a.{extension}", tmp_path / f"b.{extension}"
    write_video(path, _ramp(24), 12, tone)
    write_video(again, _ramp(24), 12, tone)
    assert path.read_bytes() == again.read_bytes()
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        assert "creation_time" not in container.metadata
    assert len(frames) == 24
    assert frames[13].time == pytest.approx(13 / 12, abs=0.002)
    assert (frames[0].width, frames[0].height) == (96, 64)
    shown = frames[20].to_ndarray(format="rgb24").mean(axis=(0, 1))
    np.testing.assert_allclose(shown, (120, 120, 120), atol=8)
    with av.open(str(path)) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) > 0


def test_the_index_of_an_mp4_comes_first(tone: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, _ramp(24), 12, tone)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_a_video_without_frames_and_an_unknown_format_are_errors(
    tone: np.ndarray, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"a\.mp4: a video needs at least one frame"):
        write_video(tmp_path / "a.mp4", [], 12, tone)
    with pytest.raises(KeyError, match="xyz"):
        write_sound(tmp_path / "a.xyz", tone)
