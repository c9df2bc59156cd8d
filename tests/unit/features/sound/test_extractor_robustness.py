"""Copies of a recording by any codec and at any level have nearly the same embedding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from features import AudioConfig, AudioExtractor
from features.container.media_file import MediaFile
from features.sound.decode import decode_sound
from simulation.encode import SAMPLE_RATE
from simulation.music import MusicControls, make_music
from simulation.styles import STYLES
from tests.helpers.media_kinds import write_sound

Samples = npt.NDArray[np.float32]
LEVELS = {"mp3": 0.25, "ogg": 0.5, "m4a": 0.7, "wav": 0.1}
SECONDS = 15.0


def recordings() -> Iterator[Samples]:
    """Yield two stereo pieces of each genre, and sounds that codecs change strongly."""
    rng = np.random.default_rng(0)
    for genre in [*STYLES, *STYLES]:
        controls = MusicControls(*rng.uniform(0, 1, len(fields(MusicControls))))
        yield make_music(genre, controls, SECONDS, rng)
    sparse, quiet = struck(rng, 1.7, 0.005, None), struck(rng, 6.0, 0.8, 330.0)
    for sound in (sparse, 0.05 * quiet, struck(rng, 1.9, 0.7, 262.0) + sparse, speech(rng)):
        yield np.stack([sound, sound]).astype(np.float32)


def struck(rng: np.random.Generator, every: float, decay: float, hertz: float | None) -> Samples:
    """Return clicks of noise, or notes, in silence, one per ``every`` seconds: [n]."""
    time = np.arange(round(SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    since = (time + 0.4) % every
    wave = rng.normal(0, 1, len(time)) if hertz is None else np.sin(2 * np.pi * hertz * since)
    return (0.4 * np.exp(-since / decay) * wave).astype(np.float32)


def speech(rng: np.random.Generator) -> Samples:
    """Return bursts of coloured noise with gaps, [n]."""
    count = round(SECONDS * SAMPLE_RATE)
    loud = rng.random(150) ** 3 * (rng.random(150) > 0.35)
    swell = np.convolve(np.repeat(loud, count // 150), np.hanning(2000) / 1000, "same")
    noise = np.convolve(rng.normal(0, 1, count), np.hanning(24), "same")
    return (0.05 * noise * np.resize(swell, count)).astype(np.float32)


def write(path: Path, stereo: Samples) -> Path:
    """Encode as a platform would: 128 kbit/s, Vorbis at libsndfile's default quality."""
    codecs = {".mp3": "libmp3lame", ".m4a": "aac", ".wav": "pcm_s16le", ".flac": "flac"}
    if path.suffix == ".ogg":
        soundfile.write(path, stereo.T, SAMPLE_RATE, format="OGG", subtype="VORBIS")
    else:
        write_sound(path, codecs[path.suffix], stereo, SAMPLE_RATE, {"b": "128k"})
    return path


@pytest.mark.slow
def test_codec_level_and_channels_hardly_change_an_embedding(tmp_path: Path) -> None:
    extractor = AudioExtractor(AudioConfig())
    tracks = list(recordings())
    plain = [write(tmp_path / f"{i}.flac", track) for i, track in enumerate(tracks)]
    catalogue = np.stack([extractor.extract(MediaFile(path))[0].embedding for path in plain])
    mean, deviation = catalogue.mean(axis=0), catalogue.std(axis=0) + 1e-6

    def unit(embedding: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        standard = (embedding - mean) / deviation
        return standard / np.linalg.norm(standard)

    cosines = {}
    for number, track in enumerate(tracks):
        original = unit(catalogue[number])
        for suffix, level in LEVELS.items():
            path = write(tmp_path / f"copy.{suffix}", track * np.float32(level))
            cosines[number, suffix] = float(
                unit(extractor.extract(MediaFile(path))[0].embedding) @ original
            )
        mono = decode_sound(MediaFile(plain[number]), extractor.config.sample_rate, SECONDS)
        alone = extractor.measure(mono.samples, mono.decoder).embedding
        cosines[number, "mono"] = float(unit(alone) @ original)
    assert len(cosines) == 5 * len(tracks)
    assert not {key: cosine for key, cosine in cosines.items() if cosine <= 0.98}
    others = unit(catalogue[0]) @ np.stack([unit(row) for row in catalogue[1:]]).T
    assert others.max() < 0.9
