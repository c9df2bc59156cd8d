"""Statistics of music: spectrum, timbre, rhythm, harmony, loudness.

All of them are computed from one short-time Fourier transform of sound that was brought
to one loudness, by librosa's functions (McFee et al., SciPy 2015).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import librosa
import numpy as np
import numpy.typing as npt

from features.config import AudioConfig

Array = npt.NDArray[np.float32]
Vector = npt.NDArray[np.float64]

# Loudness to which all sound is brought (RMS, full scale 1), and the floor of dB values.
TARGET_RMS = 0.1
FLOOR_DB = 80.0


@dataclass(frozen=True)
class Spectra:
    """The transforms that the statistics share.

    Attributes:
        samples: float32 [n], at the target loudness.
        level: RMS of the original, in dB of full scale.
        power: float32 [1 + n_fft / 2, T].
        mel: float32 [n_mels, T], dB below its maximum (-80 to 0).
        onset: float32 [T], onset strength.
        sample_rate: Hz.
        hop: samples between frames.
    """

    samples: Array
    level: float
    power: Array
    mel: Array
    onset: Array
    sample_rate: int
    hop: int


def analyse(samples: Array, config: AudioConfig) -> Spectra:
    """Transform mono sound float32 [n]; shorter than one window is padded with silence."""
    if len(samples) < config.n_fft:
        samples = np.pad(samples, (0, config.n_fft - len(samples)))
    rms = float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))
    level = 20 * np.log10(max(rms, 1e-6))
    scaled = samples * np.float32(TARGET_RMS / rms) if rms > 1e-6 else samples
    power = np.abs(librosa.stft(scaled, n_fft=config.n_fft, hop_length=config.hop)) ** 2
    bands = librosa.feature.melspectrogram(
        S=power, sr=config.sample_rate, n_fft=config.n_fft, n_mels=config.n_mels
    )
    mel = librosa.power_to_db(bands, ref=np.max, top_db=FLOOR_DB)
    onset = librosa.onset.onset_strength(S=mel, sr=config.sample_rate, hop_length=config.hop)
    return Spectra(scaled, float(level), power, mel, onset, config.sample_rate, config.hop)


def measure(spectra: Spectra, blocks: Sequence[str]) -> Vector:
    """Return the statistics of the blocks side by side, float64."""
    return np.concatenate([BLOCKS[block](spectra) for block in blocks])


def _moments(rows: npt.NDArray[np.floating]) -> Vector:
    """Return mean and deviation of each row of [d, T], float64 [2 d]."""
    values = rows.astype(np.float64)
    return np.concatenate([values.mean(axis=1), values.std(axis=1)])


def spectrum(spectra: Spectra) -> Vector:
    """Return mean and deviation of each mel band, in dB."""
    return _moments(spectra.mel)


def timbre(spectra: Spectra) -> Vector:
    """Return statistics of MFCC, their change, spectral contrast and flatness."""
    mfcc = librosa.feature.mfcc(S=spectra.mel, n_mfcc=20)
    contrast = librosa.feature.spectral_contrast(S=np.sqrt(spectra.power), sr=spectra.sample_rate)
    flatness = np.log(librosa.feature.spectral_flatness(S=spectra.power) + 1e-10)
    change = np.abs(np.diff(mfcc, axis=1)) if mfcc.shape[1] > 1 else np.zeros_like(mfcc)
    parts = [_moments(mfcc), change.mean(axis=1), _moments(contrast), _moments(flatness)]
    return np.concatenate(parts)


def rhythm(spectra: Spectra) -> Vector:
    """Return statistics of the onset envelope and of its tempogram."""
    rate = spectra.sample_rate / spectra.hop
    onset = spectra.onset.astype(np.float64)
    gram = librosa.feature.tempogram(
        onset_envelope=spectra.onset, sr=spectra.sample_rate, hop_length=spectra.hop
    ).mean(axis=1)
    lags = np.arange(1, len(gram))
    tempo = 60 * rate / lags
    edges = np.geomspace(30, 300, 25)
    bins = np.array([gram[1:][(tempo >= a) & (tempo < b)].mean() for a, b in pairwise(edges)])
    spread = onset.std() / (onset.mean() + 1e-3)
    return np.concatenate([[onset.mean(), spread, np.percentile(onset, 95)], bins])


def harmony(spectra: Spectra) -> Vector:
    """Return statistics of the chroma that do not depend on the key."""
    chroma = librosa.feature.chroma_stft(S=spectra.power, sr=spectra.sample_rate, tuning=0.0)
    mean = chroma.astype(np.float64).mean(axis=1)
    shape = np.abs(np.fft.rfft(mean / (mean.sum() + 1e-9)))[1:]
    entropy = -np.sum(mean / (mean.sum() + 1e-9) * np.log(mean / (mean.sum() + 1e-9) + 1e-9))
    change = np.abs(np.diff(chroma, axis=1)).mean() if chroma.shape[1] > 1 else 0.0
    return np.concatenate([shape, [entropy, change, chroma.std()]])


def loudness(spectra: Spectra) -> Vector:
    """Return how loudness varies: deviation, quantiles against the mean, in dB."""
    length = 2 * (len(spectra.power) - 1)
    energy = librosa.feature.rms(S=np.sqrt(spectra.power), frame_length=length)
    decibel = 20 * np.log10(np.maximum(energy[0].astype(np.float64), 1e-5))
    decibel -= decibel.mean()
    return np.array([decibel.std(), *np.percentile(decibel, [5, 25, 75, 95])])


BLOCKS: dict[str, Callable[[Spectra], Vector]] = {
    "spectrum": spectrum,
    "timbre": timbre,
    "rhythm": rhythm,
    "harmony": harmony,
    "loudness": loudness,
}
