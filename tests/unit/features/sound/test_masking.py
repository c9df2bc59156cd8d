from __future__ import annotations

import librosa
import numpy as np
import pytest

from features.sound.masking import FLOOR_DB, MASK_DB, mask_inaudible

RATE, N_FFT = 22_050, 2048
BANK = librosa.filters.mel(sr=RATE, n_fft=N_FFT, n_mels=96)
BINS = BANK.shape[1]


def line(hertz: float) -> int:
    return round(hertz * N_FFT / RATE)


def decibel(power: np.ndarray) -> np.ndarray:
    return 10 * np.log10(power)


def test_white_noise_is_raised_evenly_by_its_own_masking() -> None:
    flat = np.ones((BINS, 3), np.float32)
    raised = decibel(mask_inaudible(flat, BANK, RATE))
    expected = 10 * np.log10(1 + 10 ** (-MASK_DB / 10))
    assert np.abs(raised[line(100) : line(10_000)] - expected).max() < 0.05


@pytest.mark.parametrize("hertz", [1000.0, 2000.0, 4000.0])
def test_a_tone_masks_upwards_more_than_downwards(hertz: float) -> None:
    power = np.full((BINS, 1), 1e-12, np.float32)
    power[line(hertz)] = 1.0
    heard = decibel(mask_inaudible(power, BANK, RATE))[:, 0]
    assert heard[line(hertz)] == pytest.approx(0, abs=0.2)
    above, below = heard[line(1.5 * hertz)], heard[line(hertz / 1.5)]
    assert -FLOOR_DB < below < above - 5 < -20


def test_noise_near_a_tone_is_masked_and_far_from_it_is_not() -> None:
    power = np.full((BINS, 1), 1e-12, np.float32)
    power[line(1000)] = 1.0
    power[line(6000)] = 1e-3
    noisy = power.copy()
    noisy[line(1100)] = 1e-4
    change = decibel(mask_inaudible(noisy, BANK, RATE)) - decibel(mask_inaudible(power, BANK, RATE))
    assert np.abs(change).max() < 1.0
    noisy[line(4000)] = 1e-4
    change = decibel(mask_inaudible(noisy, BANK, RATE)) - decibel(mask_inaudible(power, BANK, RATE))
    assert change.max() > 10


def test_no_value_is_below_the_floor_and_silence_stays_silent() -> None:
    power = np.zeros((BINS, 4), np.float32)
    assert (mask_inaudible(power, BANK, RATE) == 0).all()
    power[line(1000), 1] = 2.0
    heard = mask_inaudible(power, BANK, RATE)
    assert heard.dtype == np.float32
    assert decibel(heard[:, 3] / 2.0) == pytest.approx(-FLOOR_DB, abs=0.01)
