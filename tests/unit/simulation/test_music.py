"""Synthesised music: each control has its effect, and genres can be told apart."""

from __future__ import annotations

from dataclasses import replace

import librosa
import numpy as np
import pytest

from simulation.encode import SAMPLE_RATE
from simulation.music import MusicControls, make_ambience, make_music
from simulation.plan import SMALL_WORLD, make_plan
from simulation.styles import GENRE_GROUPS
from simulation.world import make_world

MIDDLE = MusicControls(0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)


def _play(genre: str, seconds: float = 8.0, seed: int = 3, **controls: float) -> np.ndarray:
    sound = make_music(genre, replace(MIDDLE, **controls), seconds, np.random.default_rng(seed))
    return sound.mean(axis=0)


def _centroid(sound: np.ndarray) -> float:
    return float(librosa.feature.spectral_centroid(y=sound, sr=SAMPLE_RATE).mean())


def _onsets(sound: np.ndarray) -> int:
    return len(librosa.onset.onset_detect(y=sound, sr=SAMPLE_RATE))


@pytest.mark.parametrize("genre", GENRE_GROUPS)
def test_music_has_its_length_and_range(genre: str) -> None:
    first = make_music(genre, MIDDLE, 3.5, np.random.default_rng(1))
    again = make_music(genre, MIDDLE, 3.5, np.random.default_rng(1))
    other = make_music(genre, MIDDLE, 3.5, np.random.default_rng(2))
    assert first.shape == (2, round(3.5 * SAMPLE_RATE))
    assert first.dtype == np.float32
    assert 0.02 < np.sqrt(np.mean(first**2)) < 0.3
    assert np.abs(first).max() <= 1.0
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_an_unknown_genre_is_an_error() -> None:
    with pytest.raises(KeyError, match="polka"):
        make_music("polka", MIDDLE, 1.0, np.random.default_rng(0))


@pytest.mark.parametrize("genre", GENRE_GROUPS)
def test_brightness_moves_the_spectrum_up(genre: str) -> None:
    assert _centroid(_play(genre, brightness=0.95)) > 1.1 * _centroid(_play(genre, brightness=0.05))


@pytest.mark.parametrize("genre", ["folk", "pop"])
def test_density_adds_notes(genre: str) -> None:
    assert _onsets(_play(genre, density=0.95)) > 1.2 * _onsets(_play(genre, density=0.05))


def test_tempo_is_the_tempo_of_the_drums() -> None:
    for share, expected in ((0.0, 114.0), (1.0, 138.0)):
        sound = _play("electronic", 12.0, tempo=share, density=0.05, hardness=0.9)
        envelope = librosa.onset.onset_strength(y=sound, sr=SAMPLE_RATE)
        spectrum = librosa.feature.fourier_tempogram(onset_envelope=envelope, sr=SAMPLE_RATE)
        tempi = librosa.fourier_tempo_frequencies(sr=SAMPLE_RATE)
        near = (tempi > 100) & (tempi < 150)
        found = tempi[near][np.abs(spectrum).mean(axis=1)[near].argmax()]
        assert found == pytest.approx(expected, abs=4.0)


def test_swell_changes_loudness_over_time() -> None:
    def spread(sound: np.ndarray) -> float:
        level = librosa.feature.rms(y=sound, frame_length=SAMPLE_RATE, hop_length=SAMPLE_RATE // 4)
        return float(level.std() / level.mean())

    assert spread(_play("pop", swell=0.95)) > 2.0 * spread(_play("pop", swell=0.0))


def test_space_adds_reverberation() -> None:
    def floor(sound: np.ndarray) -> float:
        level = librosa.feature.rms(y=sound, frame_length=512, hop_length=512)[0]
        return float(np.quantile(level, 0.05) / np.quantile(level, 0.95))

    dry = _play("electronic", space=0.0, density=0.1)
    wet = _play("electronic", space=1.0, density=0.1)
    assert floor(wet) > 1.3 * floor(dry)


def test_ambience_is_noise_and_not_music() -> None:
    quiet = make_ambience(0.0, 4.0, np.random.default_rng(0))
    busy = make_ambience(1.0, 4.0, np.random.default_rng(0))
    assert quiet.shape == (2, 4 * SAMPLE_RATE)
    flatness = librosa.feature.spectral_flatness(y=quiet[0]).mean()
    assert flatness > librosa.feature.spectral_flatness(y=_play("pop")).mean()
    assert _centroid(busy[0]) > _centroid(quiet[0])


def test_genres_of_the_small_world_can_be_told_apart() -> None:
    plan = make_plan(make_world(SMALL_WORLD))
    rows = []
    for track in plan.music:
        rng = np.random.default_rng(track.seed)
        sound = make_music(track.group, track.tune, 6.0, rng).mean(axis=0)
        mel = librosa.feature.melspectrogram(y=sound, sr=SAMPLE_RATE, n_mels=64)
        coefficients = librosa.feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=16)
        rows.append(np.concatenate([coefficients.mean(axis=1), coefficients.std(axis=1)]))
    features = np.array(rows)
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    distance = np.linalg.norm(features[:, None] - features[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    groups = np.array([track.group for track in plan.music])
    accuracy = float((groups[distance.argmin(axis=1)] == groups).mean())
    chance = float(np.mean([(groups == group).mean() for group in groups]))
    assert accuracy > 0.8, f"nearest neighbour {accuracy:.2f}, chance {chance:.2f}"
    assert accuracy > 2.5 * chance
