"""Patches of a log-mel spectrogram, as networks that listen take them."""

from __future__ import annotations

import librosa
import numpy as np
import soxr

from features.arrays import Float32Array
from features.config import SoundEncoder
from features.sound.masking import audible


def log_mel_patches(
    samples: Float32Array, sample_rate: int, encoder: SoundEncoder, most: int
) -> Float32Array:
    """Return patches float32 [N, frames, bands] of a sound, or [N, 1, frames, bands].

    The logarithm of mel bands of a Hann window's spectrum, as in VGGish (Hershey et al.,
    ICASSP 2017) and MusiCNN (Pons and Serra, ISMIR 2019). As few patches as cover the sound,
    or ``most``, lie evenly from its start to its end; a sound shorter than one is repeated.

    Args:
        samples: mono, float32 [n].
        sample_rate: of the samples, in Hz.
        encoder: what the network takes.
        most: patches.
    """
    resampled = soxr.resample(samples, sample_rate, encoder.sample_rate, "HQ")
    shortest = encoder.n_fft + (encoder.frames - 1) * encoder.hop
    if len(resampled) < shortest:
        resampled = np.resize(resampled, shortest)
    frames = _log_mel(resampled, encoder)
    count = min(most, -(-len(frames) // encoder.frames))
    starts = np.linspace(0, len(frames) - encoder.frames, count).astype(int)
    patches = np.stack([frames[start : start + encoder.frames] for start in starts])
    return patches[:, None] if encoder.channel_axis else patches


def _log_mel(samples: Float32Array, encoder: SoundEncoder) -> Float32Array:
    """Return the log-mel spectrogram float32 [T, bands] of samples at the encoder's rate."""
    spectrum = librosa.stft(
        samples,
        n_fft=encoder.n_fft,
        hop_length=encoder.hop,
        win_length=encoder.window,
        center=False,
    )
    power = np.abs(spectrum) ** 2
    if encoder.masked:
        slaney = librosa.filters.mel(
            sr=encoder.sample_rate, n_fft=encoder.n_fft, n_mels=encoder.n_mels
        )
        power = audible(power, slaney, encoder.sample_rate)
    bank = librosa.filters.mel(
        sr=encoder.sample_rate,
        n_fft=encoder.n_fft,
        n_mels=encoder.n_mels,
        fmin=encoder.fmin,
        fmax=encoder.fmax,
        htk=encoder.mel == "htk",
        norm=None if encoder.mel == "htk" else "slaney",
    )
    bands = bank @ power ** (encoder.power / 2)
    return np.asarray(np.log(encoder.log_scale * bands + encoder.log_offset).T, np.float32)
