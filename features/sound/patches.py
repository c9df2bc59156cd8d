"""Cuts a sound into patches of a log-mel spectrogram, the input of sound networks."""

from __future__ import annotations

import librosa
import numpy as np
import soxr

from features.arrays import Float32Array
from features.config import SoundEncoder
from features.sound.masking import mask_inaudible


def log_mel_patches(
    samples: Float32Array, sample_rate: int, encoder: SoundEncoder, most: int
) -> Float32Array:
    """Return patches of the log-mel spectrogram of a sound.

    The patches are those of VGGish (Hershey et al., ICASSP 2017) and MusiCNN (Pons and Serra, ISMIR
    2019), depending on the encoder. They are evenly spaced from start to end; their number is the
    smallest that covers the sound, but at most ``most``. A sound shorter than one patch is
    repeated.

    Args:
        samples: mono sound, float32 [n].
        sample_rate: sample rate of the samples, in Hz.
        encoder: configuration of the network.
        most: largest number of patches.

    Returns:
        float32 [N, frames, n_mels], or [N, 1, frames, n_mels] if the encoder has a channel axis.
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
    """Return the log-mel spectrogram, float32 [T, n_mels], of samples at the encoder's rate."""
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
        power = mask_inaudible(power, slaney, encoder.sample_rate)
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
