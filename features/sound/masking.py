"""What of a sound can be heard: louder sound near in pitch masks softer one.

Lossy codecs put their noise where it is masked (Brandenburg, 1999), and there copies of one
recording differ. Statistics of what is heard are the same for all of them.
"""

from __future__ import annotations

import librosa
import numpy as np

from features.arrays import Float32Array

# How far under the smeared spectrum sound is no longer heard. The ear's own threshold is 6 dB
# (noise masks) to 25 dB (tones mask) down; codecs of low rates come nearer than that.
MASK_DB = 16.0
# The even floor of the quiet, below the loudest point.
FLOOR_DB = 60.0


def audible(power: Float32Array, bank: Float32Array, sample_rate: int) -> Float32Array:
    """Return a spectrogram in which nothing lies far below what masks it.

    The threshold is added to the power, so that what is loud hardly changes, and what is
    masked turns into the threshold without a step.

    Args:
        power: float32 [1 + n_fft / 2, T].
        bank: float32 [n_mels, 1 + n_fft / 2], bands of equal area (Slaney), from 0 Hz up.
        sample_rate: Hz.
    """
    floor = power.max() * np.float32(10 ** (-FLOOR_DB / 10))
    heard = power + _smear(bank, sample_rate) @ (bank @ power) + floor
    return np.asarray(heard, np.float32)


def _smear(bank: Float32Array, sample_rate: int) -> Float32Array:
    """Return what turns mel bands into thresholds of the transform's lines, [lines, n_mels]."""
    bands, lines = bank.shape
    centres = librosa.mel_frequencies(bands + 2, fmin=0.0, fmax=sample_rate / 2)[1:-1]
    bark = 13 * np.arctan(0.00076 * centres) + 3.5 * np.arctan((centres / 7500) ** 2)
    # Schroeder, Atal and Hall (JASA 1979): 25 dB a Bark downwards, 10 dB upwards.
    apart = bark[:, None] - bark[None] + 0.474
    spread = 10 ** ((15.81 + 7.5 * apart - 17.5 * np.sqrt(1 + apart**2)) / 10)
    spread /= spread.sum(axis=1, keepdims=True)
    spread *= 10 ** (-MASK_DB / 10) / bank.sum(axis=1, keepdims=True)
    hertz = np.linspace(0, sample_rate / 2, lines)
    between = np.stack([np.interp(hertz, centres, one) for one in np.eye(bands)], axis=1)
    return np.asarray(between @ spread, np.float32)
