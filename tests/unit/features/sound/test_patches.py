from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest

from features import AudioConfig, AudioExtractor, EncoderError, SoundEncoder
from features.networks.packaged import MUSICNN
from features.results import Decoder
from features.sound.patches import log_mel_patches
from tests.helpers import small_networks as networks

RATE = 16_000
NOISE = np.random.default_rng(0).normal(0, 0.1, 3 * RATE).astype(np.float32)
VGGISH = SoundEncoder(name="vggish", path=Path("a.onnx"), sha256="0" * 64, dim=64)


def bands(tmp_path: Path, **changes: Any) -> SoundEncoder:
    """A network that returns the mean log-mel value of each band of a patch."""
    path = networks.mean_over(tmp_path / "bands.onnx", ["n", 1, 96, 64], [1, 2])
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return VGGISH.model_copy(update={"path": path, "sha256": sha256} | changes)


def test_patches_equal_those_of_vggish() -> None:
    patches = log_mel_patches(NOISE, RATE, VGGISH, 16)
    # 3 s are a little more than three patches of 0.96 s, so four patches overlap.
    assert patches.shape == (4, 1, 96, 64)
    starts = 160 * np.linspace(0, (3 * RATE - 512) // 160 + 1 - 96, 4).astype(int)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    bank = librosa.filters.mel(
        sr=RATE, n_fft=512, n_mels=64, fmin=125, fmax=7500, htk=True, norm=None
    )
    for patch, frame in ((0, 0), (0, 7), (2, 95), (3, 95)):
        # librosa centres the window in the transform; a shift only changes phases.
        start = starts[patch] + frame * 160 + (512 - 400) // 2
        magnitude = np.abs(np.fft.rfft(NOISE[start : start + 400] * window, 512))
        np.testing.assert_allclose(
            patches[patch, 0, frame], np.log(bank @ magnitude + 0.01), atol=1e-4
        )
    flat = log_mel_patches(NOISE, RATE, VGGISH.model_copy(update={"channel_axis": False}), 16)
    np.testing.assert_array_equal(flat, patches[:, 0])


def test_patches_equal_those_of_musicnn() -> None:
    (patch,) = log_mel_patches(NOISE, RATE, MUSICNN.model_copy(update={"masked": False}), 1)
    power = librosa.feature.melspectrogram(
        y=NOISE, sr=RATE, n_fft=512, hop_length=256, n_mels=96, center=False
    )
    # The package takes logarithms to base 10, the exported network natural ones.
    np.testing.assert_allclose(
        patch[:186] / np.log(10), np.log10(10_000 * power[:, :186] + 1).T, atol=1e-4
    )


def test_a_masked_network_hardly_sees_inaudible_sound() -> None:
    tone = 0.14 * np.sin(2 * np.pi * 1000 / RATE * np.arange(4 * RATE)).astype(np.float32)
    # Like the noise of a codec: near the tone in pitch, 40 dB below it.
    noisy = tone + 0.0014 * np.sin(2 * np.pi * 1150 / RATE * np.arange(4 * RATE)).astype(np.float32)
    (plain, apart), (heard, near) = (
        [log_mel_patches(sound, RATE, encoder, 1) for sound in (tone, noisy)]
        for encoder in (MUSICNN.model_copy(update={"masked": False}), MUSICNN)
    )
    assert np.abs(near - heard).max() < 0.2 * np.abs(apart - plain).max()
    # Where the tone is, hardly anything changes.
    loud = plain > plain.max() - 1
    np.testing.assert_allclose(heard[loud], plain[loud], atol=0.05)


def test_patches_are_evenly_spaced_from_start_to_end() -> None:
    second = np.arange(60 * RATE) // RATE
    loudness = (second / 60).astype(np.float32) * np.sin(np.arange(60 * RATE)).astype(np.float32)
    few = log_mel_patches(loudness, RATE, MUSICNN, 5).mean(axis=(1, 2))
    assert len(few) == 5
    np.testing.assert_array_equal(np.argsort(few), np.arange(5))
    assert len(log_mel_patches(loudness, RATE, MUSICNN, 100)) == 21
    last = log_mel_patches(loudness[-(512 + 186 * 256) :], RATE, MUSICNN, 1).mean(axis=(1, 2))
    np.testing.assert_allclose(few[-1], last, rtol=0.01)


@pytest.mark.parametrize("samples", [1, 10, RATE])
def test_a_short_sound_is_repeated(samples: int) -> None:
    patches = log_mel_patches(NOISE[:samples], RATE, MUSICNN, 16)
    assert patches.shape == (1, 187, 96)
    # As long as one patch needs.
    repeated = np.tile(NOISE[:samples], 4 * RATE // samples)[: 512 + 186 * 256]
    np.testing.assert_array_equal(patches[0], log_mel_patches(repeated, RATE, MUSICNN, 16)[0])


def test_the_network_is_averaged_over_patches_at_one_loudness(tmp_path: Path) -> None:
    config = AudioConfig(encoder=bands(tmp_path), blocks=("network",))
    extractor = AudioExtractor(config)
    sound = np.random.default_rng(1).normal(0, 0.1, 3 * config.sample_rate).astype(np.float32)
    sound *= np.float32(0.1) / np.sqrt(np.mean(sound**2))
    assert config.encoder is not None
    patches = log_mel_patches(sound, config.sample_rate, config.encoder, 16)
    for level in (1, 0.02, 7):
        found = extractor.measure(sound * np.float32(level), Decoder.PYAV).embedding
        np.testing.assert_allclose(found, patches.mean(axis=(0, 1, 2)), atol=1e-4)


def test_a_network_with_another_dimension_is_an_error(tmp_path: Path) -> None:
    config = AudioConfig(encoder=bands(tmp_path, dim=128), blocks=("network", "timbre"))
    with pytest.raises(EncoderError, match=r"returns shape \(1, 64\), expected \(1, 128\)"):
        AudioExtractor(config)
