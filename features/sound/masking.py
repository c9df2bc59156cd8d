"""Removes inaudible sound from a spectrogram: loud sound masks softer sound near in pitch.

Lossy codecs put their noise where it is masked (Brandenburg, "MP3 and AAC Explained", AES 1999), so
copies of one recording differ there. Statistics of the audible sound are the same for all copies.
"""

from __future__ import annotations

import librosa
import numpy as np

from features.arrays import Float32Array

# Sound this far below the spread spectrum is inaudible. For the ear it is 6 dB (noise as masker) to
# 25 dB (tone as masker); codecs at low bit rates leave noise closer to the masker than 25 dB.
MASK_DB = 16.0
# Sound this far below the loudest point of the spectrogram is inaudible.
FLOOR_DB = 60.0


def mask_inaudible(power: Float32Array, bank: Float32Array, sample_rate: int) -> Float32Array:
    """Add the masking threshold to a power spectrogram.

    Loud sound hardly changes; masked sound is replaced by the threshold. There is no step between
    the two.

    Args:
        power: power spectrogram, float32 [1 + n_fft / 2, T].
        bank: mel filters of equal area (Slaney), float32 [n_mels, 1 + n_fft / 2], from 0 Hz.
        sample_rate: sample rate in Hz.

    Returns:
        The power with the threshold, float32 [1 + n_fft / 2, T].
    """
    floor = power.max() * np.float32(10 ** (-FLOOR_DB / 10))
    masked = power + _threshold_matrix(bank, sample_rate) @ (bank @ power) + floor
    return np.asarray(masked, np.float32)


def _threshold_matrix(bank: Float32Array, sample_rate: int) -> Float32Array:
    """Return the matrix [bins, n_mels] from mel powers to masking thresholds per frequency bin."""
    bands, bins = bank.shape
    centres = librosa.mel_frequencies(bands + 2, fmin=0.0, fmax=sample_rate / 2)[1:-1]
    bark = 13 * np.arctan(0.00076 * centres) + 3.5 * np.arctan((centres / 7500) ** 2)
    # Spreading function of Schroeder, Atal and Hall (JASA 1979): 25 dB per Bark downwards, 10 dB
    # per Bark upwards.
    apart = bark[:, None] - bark[None] + 0.474
    spread = 10 ** ((15.81 + 7.5 * apart - 17.5 * np.sqrt(1 + apart**2)) / 10)
    spread /= spread.sum(axis=1, keepdims=True)
    spread *= 10 ** (-MASK_DB / 10) / bank.sum(axis=1, keepdims=True)
    hertz = np.linspace(0, sample_rate / 2, bins)
    interpolation = np.stack([np.interp(hertz, centres, one) for one in np.eye(bands)], axis=1)
    return np.asarray(interpolation @ spread, np.float32)
