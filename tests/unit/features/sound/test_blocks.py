from __future__ import annotations

from collections.abc import Callable

import librosa
import numpy as np
import pytest

from features.arrays import Float32Array
from features.config import AudioConfig
from features.results import Decoder
from features.sound import blocks
from features.sound.blocks import BLOCKS, analyse
from features.sound.extractor import AudioExtractor

CONFIG = AudioConfig()
RATE = CONFIG.sample_rate
DIMS = {"log_mel": 192, "timbre": 71, "brightness": 18, "rhythm": 33, "tempo": 4, "harmony": 26}


def notes(*hertz: float, seconds: float = 6.0) -> Float32Array:
    time = np.arange(round(seconds * RATE)) / RATE
    return np.sum([np.sin(2 * np.pi * h * time) for h in hertz], axis=0).astype(np.float32) * 0.1


def clicks(bpm: float, seconds: float = 12.0) -> Float32Array:
    samples = np.zeros(round(seconds * RATE), np.float32)
    burst = np.random.default_rng(0).normal(0, 0.3, 800).astype(np.float32)
    for at in np.arange(0, seconds - 0.1, 60 / bpm):
        start = round(at * RATE)
        samples[start : start + 800] += burst * np.linspace(1, 0, 800, dtype=np.float32)
    return samples


def noise(seconds: float = 6.0) -> Float32Array:
    return np.random.default_rng(1).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


SOUNDS: dict[str, Callable[[], Float32Array]] = {
    "noise": noise,
    "chord": lambda: notes(220, 277.2, 329.6),
    "clicks": lambda: clicks(120),
    "silence": lambda: np.zeros(3 * RATE, np.float32),
    "one sample": lambda: np.ones(1, np.float32),
    "a tenth of a second": lambda: noise(0.1),
    "a click in silence": lambda: np.eye(1, 4 * RATE, 2 * RATE, dtype=np.float32)[0],
    "constant": lambda: np.full(2 * RATE, 0.3, np.float32),
    "full scale": lambda: np.sign(noise(2.0)),
}


@pytest.mark.parametrize("name", SOUNDS)
def test_every_block_has_its_dimension_and_finite_values_for_any_sound(name: str) -> None:
    spectra = analyse(SOUNDS[name](), CONFIG)
    for block, length in DIMS.items():
        values = BLOCKS[block](spectra)
        assert values.shape == (length,), block
        assert np.isfinite(values).all(), block


def test_the_embedding_contains_the_blocks_in_the_configured_order() -> None:
    extractor = AudioExtractor(AudioConfig(blocks=("harmony", "network", "timbre")))
    found = extractor.measure(SOUNDS["chord"](), Decoder.PYAV).embedding
    spectra = analyse(SOUNDS["chord"](), CONFIG)
    assert list(extractor.blocks) == ["harmony", "network", "timbre"]
    assert found.shape == (extractor.dim,)
    for block in ("harmony", "timbre"):
        expected = BLOCKS[block](spectra).astype(np.float32)
        np.testing.assert_array_equal(found[extractor.blocks[block]], expected)


@pytest.mark.parametrize("name", SOUNDS)
def test_the_default_embedding_is_finite_for_any_sound(name: str) -> None:
    extractor = AudioExtractor(CONFIG)
    found = extractor.measure(SOUNDS[name](), Decoder.PYAV).embedding
    assert found.shape == (extractor.dim,)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("sound", ["noise", "chord", "clicks"])
def test_the_spectrogram_equals_that_of_librosa(sound: str) -> None:
    samples = SOUNDS[sound]()
    found = analyse(samples, CONFIG).log_mel
    power = librosa.feature.melspectrogram(
        y=samples, sr=RATE, n_fft=CONFIG.n_fft, hop_length=CONFIG.hop, n_mels=CONFIG.n_mels
    )
    expected = librosa.power_to_db(power, ref=np.max, amin=1e-20, top_db=blocks.MEL_DB)
    heard = expected > -60
    assert heard.mean() > 0.02
    assert np.abs(found - expected)[heard].max() < 1e-3
    assert (found.max(), found.min() >= -blocks.MEL_DB) == (0.0, True)


@pytest.mark.parametrize("level", [0.01, 0.3, 5.0])
def test_the_level_does_not_change_the_features(level: float) -> None:
    plain = noise() * np.repeat([1, 0.3, 0.8], len(noise()) // 3).astype(np.float32)
    for block in DIMS:
        np.testing.assert_allclose(
            BLOCKS[block](analyse(plain * np.float32(level), CONFIG)),
            BLOCKS[block](analyse(plain, CONFIG)),
            rtol=1e-3,
            atol=1e-3,
            err_msg=block,
        )


@pytest.mark.parametrize("bpm", [70.0, 100.0, 120.0, 150.0])
def test_tempo_is_that_of_the_clicks(bpm: float) -> None:
    along, across, height, clear = BLOCKS["tempo"](analyse(clicks(bpm), CONFIG))
    # Half and double tempo have the same angle: the circle is one octave.
    apart = np.arctan2(across, along) / (2 * np.pi) - np.log2(bpm)
    assert abs(apart - round(apart)) < 0.05
    assert np.hypot(along, across) > 0.015
    assert 1 >= height > 0.3
    assert height >= clear > 0.2


def test_sound_without_a_pulse_has_no_tempo() -> None:
    for sound in (notes(220, 277.2), np.zeros(6 * RATE, np.float32)):
        values = BLOCKS["tempo"](analyse(sound, CONFIG))
        assert np.abs(values).max() < 0.05


def test_rhythm_distinguishes_pulses_from_noise() -> None:
    beat, even = (BLOCKS["rhythm"](analyse(s, CONFIG)) for s in (clicks(120), noise(12.0)))
    assert beat[1] - even[1] > np.log(3)
    assert beat[2] - beat[0] > even[2] - even[0] + np.log(2)


def test_harmony_names_the_note_and_its_shape_does_not_depend_on_the_key() -> None:
    a = BLOCKS["harmony"](analyse(notes(440.0), CONFIG))
    assert a[:12].argmax() == 9
    chord = np.array([261.63, 329.63, 392.0])
    major = BLOCKS["harmony"](analyse(notes(*chord), CONFIG))
    moved = BLOCKS["harmony"](analyse(notes(*chord * 2 ** (5 / 12)), CONFIG))
    assert set(np.argsort(major[:12])[-3:]) == {0, 4, 7}
    assert set(np.argsort(moved[:12])[-3:]) == {5, 9, 0}
    assert np.abs(major[12:18] - moved[12:18]).max() < 0.08
    assert np.abs(major[:12] - moved[:12]).max() > 0.4
    # Four notes of half a second repeat after two seconds, not after one.
    moving = np.concatenate(
        [notes(f, seconds=0.5) for f in (262, 330, 392, 494, 262, 330, 392, 494)]
    )
    after_one, after_two = BLOCKS["harmony"](analyse(moving, CONFIG))[-2:]
    assert major[-2] > 0.99
    assert after_two > 0.99 > after_one + 0.2


def test_brightness_follows_the_spectrum() -> None:
    def centroid(hertz: float) -> float:
        return float(np.exp(BLOCKS["brightness"](analyse(notes(hertz), CONFIG))[4]))

    assert centroid(500.0) < centroid(1000.0) < centroid(4000.0)
    hiss = BLOCKS["brightness"](analyse(noise(), CONFIG))
    hum = BLOCKS["brightness"](analyse(notes(200.0), CONFIG))
    assert hiss[1] > -1
    assert hum[1] < -4
    assert hiss[7] == pytest.approx(0.5, abs=0.02)
    assert hum[7] == pytest.approx(2 * 200 / RATE, rel=0.1)


def test_timbre_equals_plain_statistics_for_even_noise() -> None:
    spectra = analyse(noise(), CONFIG)
    single = spectra.mfcc[1:].astype(float)
    last = single.shape[1] - single.shape[1] % 2
    coefficients = (single[:, 0:last:2] + single[:, 1:last:2]) / 2
    found = BLOCKS["timbre"](spectra)
    # In even noise all frames have nearly the same weight.
    deviation = coefficients.std(axis=1)
    np.testing.assert_allclose(found[:12], coefficients.mean(axis=1), atol=0.02)
    np.testing.assert_allclose(found[12:24], np.log(deviation + 1), atol=0.02)
    steps = np.abs(np.diff(coefficients)).mean(axis=1)
    np.testing.assert_allclose(found[24:36], np.log(steps + 1), atol=0.02)
    wide = deviation[:8] / (deviation[:8] + 3)
    expected = np.corrcoef(coefficients[:8]) * np.outer(wide, wide)
    np.testing.assert_allclose(found[36:64], expected[np.triu_indices(8, 1)], atol=0.01)


def test_soft_parts_hardly_change_the_timbre() -> None:
    """Soft hiss in half of the track hardly changes the timbre of its loud half."""
    chord, hiss = notes(220, 277.2, 329.6), noise() * np.float32(0.001)
    loud = BLOCKS["timbre"](analyse(np.concatenate([chord, chord]), CONFIG))[:12]
    soft = BLOCKS["timbre"](analyse(np.concatenate([chord, hiss]), CONFIG))[:12]
    other = BLOCKS["timbre"](analyse(hiss, CONFIG))[:12]
    assert np.abs(soft - loud).max() < 0.05 * np.abs(other - loud).max()
