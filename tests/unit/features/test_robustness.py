"""One recording by any codec and at any level has one embedding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from media_kinds import write_sound

from features import AudioConfig, AudioExtractor, Limits
from features.sound import decode_sound
from simulation.encode import SAMPLE_RATE
from simulation.music import Musical, make_music
from simulation.styles import STYLES

Samples = npt.NDArray[np.float32]
LEVELS = {"mp3": 0.25, "ogg": 0.5, "m4a": 0.7, "wav": 0.1}
SECONDS = 15.0


def recordings() -> Iterator[Samples]:
    """Yield two stereo pieces of each genre."""
    rng = np.random.default_rng(0)
    for genre in [*STYLES, *STYLES]:
        controls = Musical(*rng.uniform(0, 1, len(fields(Musical))))
        yield make_music(genre, controls, SECONDS, rng)


def write(path: Path, stereo: Samples) -> Path:
    """Encode as a platform would: 128 kbit/s, Vorbis at quality 6 of 10."""
    codecs = {".mp3": "libmp3lame", ".m4a": "aac", ".wav": "pcm_s16le", ".flac": "flac"}
    if path.suffix == ".ogg":
        soundfile.write(
            path, stereo.T, SAMPLE_RATE, format="OGG", subtype="VORBIS", compression_level=0.4
        )
    else:
        write_sound(path, codecs[path.suffix], stereo, SAMPLE_RATE, {"b": "128k"})
    return path


@pytest.mark.slow
def test_codec_level_and_channels_hardly_move_a_track_in_its_catalogue(tmp_path: Path) -> None:
    extractor = AudioExtractor(AudioConfig())
    tracks = list(recordings())
    plain = [write(tmp_path / f"{i}.flac", track) for i, track in enumerate(tracks)]
    catalogue = np.stack([extractor.extract(path)[0].embedding for path in plain])
    mean, deviation = catalogue.mean(axis=0), catalogue.std(axis=0) + 1e-6

    def unit(embedding: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        standard = (embedding - mean) / deviation
        return standard / np.linalg.norm(standard)

    cosines = {}
    for number in range(0, len(tracks), 3):
        original = unit(catalogue[number])
        for suffix, level in LEVELS.items():
            path = write(tmp_path / f"copy.{suffix}", tracks[number] * np.float32(level))
            cosines[number, suffix] = float(unit(extractor.extract(path)[0].embedding) @ original)
        mono = decode_sound(plain[number], extractor.config.sample_rate, SECONDS, Limits())
        alone = extractor.measure(mono.samples, mono.decoder).embedding
        cosines[number, "mono"] = float(unit(alone) @ original)
    for suffix in (*LEVELS, "mono"):
        found = [cosine for (_, kind), cosine in cosines.items() if kind == suffix]
        assert np.mean(found) > 0.98, (suffix, found)
        assert min(found) > 0.95, (suffix, found)
    others = unit(catalogue[0]) @ np.stack([unit(row) for row in catalogue[1:]]).T
    assert others.max() < 0.9
