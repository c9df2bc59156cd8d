"""Statistics of music: timbre, brightness, rhythm, tempo, harmony.

All of them come from one short-time Fourier transform of sound that was brought to one
loudness, by librosa's functions (McFee et al., SciPy 2015). Statistics see an even floor
of noise FLOOR_DB below the loudest point of the spectrum: codecs differ most down there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import librosa
import numpy as np
import numpy.typing as npt
import scipy.fft

from features.config import AudioConfig

Array = npt.NDArray[np.float32]
Vector = npt.NDArray[np.float64]

# Loudness to which all sound is brought (RMS, full scale 1).
TARGET_RMS = 0.1
# Range of the spectrogram that is kept, and of what the statistics see.
MEL_DB = 80.0
FLOOR_DB = 65.0

_MFCC = 20
_CORRELATED = 8
_GROUPS = 12
_MODULATION_HZ = (0.3, 0.7, 1.3, 2.3, 4.0, 7.0, 12.0, 20.0)
_MODULATION_SECONDS = 6.0


@dataclass(frozen=True)
class Spectra:
    """The transforms that the statistics share.

    Attributes:
        samples: float32 [n], at the target loudness.
        log_mel: float32 [n_mels, T], dB below its maximum (-80 to 0), to be kept.
        power: float32 [1 + n_fft / 2, T], with the floor of noise.
        mel: float32 [n_mels, T], log-mel of ``power``, dB below its maximum.
        mfcc: float32 [20, T].
        sample_rate: Hz.
        n_fft: samples in a transform.
        hop: samples between frames.
    """

    samples: Array
    log_mel: Array
    power: Array
    mel: Array
    mfcc: Array
    sample_rate: int
    n_fft: int
    hop: int

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop


def analyse(samples: Array, config: AudioConfig) -> Spectra:
    """Transform mono sound float32 [n]; shorter than one window is padded with silence."""
    if len(samples) < config.n_fft:
        samples = np.pad(samples, (0, config.n_fft - len(samples)))
    rms = float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))
    scaled = samples * np.float32(TARGET_RMS / rms) if rms > 1e-6 else samples
    power = np.abs(librosa.stft(scaled, n_fft=config.n_fft, hop_length=config.hop)) ** 2
    bank = librosa.filters.mel(sr=config.sample_rate, n_fft=config.n_fft, n_mels=config.n_mels)
    log_mel = librosa.power_to_db(bank @ power, ref=np.max, top_db=MEL_DB)
    power = np.maximum(power, power.max() * np.float32(10 ** (-FLOOR_DB / 10)))
    mel = librosa.power_to_db(bank @ power, ref=np.max, top_db=MEL_DB)
    mfcc = librosa.feature.mfcc(S=mel, n_mfcc=_MFCC)
    return Spectra(scaled, log_mel, power, mel, mfcc, config.sample_rate, config.n_fft, config.hop)


def measure(spectra: Spectra, blocks: Sequence[str]) -> Vector:
    """Return the statistics of the blocks side by side, float64."""
    return np.concatenate([np.zeros(0), *(BLOCKS[block](spectra) for block in blocks)])


def log_mel(spectra: Spectra) -> Vector:
    """Return mean and deviation of each mel band in dB, [2 n_mels]: the plain baseline."""
    kept = spectra.log_mel.astype(np.float64)
    return np.concatenate([kept.mean(axis=1), kept.std(axis=1)])


def timbre(spectra: Spectra) -> Vector:
    """Return 100 values of the colour of the sound.

    MFCC 1 to 19 of pairs of frames (codecs shake single ones): mean, log deviation, log mean
    step from pair to pair; correlations between the first 8 of them (-1 to 1); spectral
    contrast in 7 octaves, mean and deviation (dB); share of frames above the floor.
    """
    single = spectra.mfcc[1:].astype(np.float64)
    pairs = single[:, : single.shape[1] // 2 * 2].reshape(len(single), -1, 2).mean(axis=2)
    mfcc = pairs if pairs.shape[1] else single
    step = np.abs(np.diff(mfcc, axis=1)).mean(axis=1) if mfcc.shape[1] > 1 else np.zeros(len(mfcc))
    first = mfcc[:_CORRELATED] - mfcc[:_CORRELATED].mean(axis=1, keepdims=True)
    first /= np.linalg.norm(first, axis=1, keepdims=True) + 1e-6
    correlation = (first @ first.T)[np.triu_indices(_CORRELATED, 1)]
    contrast = librosa.feature.spectral_contrast(S=np.sqrt(spectra.power), sr=spectra.sample_rate)
    sounding = (spectra.mel.max(axis=0) > -60).mean()
    return np.concatenate(
        [
            mfcc.mean(axis=1),
            np.log(mfcc.std(axis=1) + 0.1),
            np.log(step + 0.1),
            correlation,
            contrast.mean(axis=1),
            contrast.std(axis=1),
            [sounding],
        ]
    )


def brightness(spectra: Spectra) -> Vector:
    """Return 18 values: 10th, 50th and 90th percentiles over time of six curves.

    Log flatness (0 is noise), log centroid, zero crossings per sample, log bandwidth, log
    roll-off (each of Hz), loudness against its median (dB).
    """
    magnitude = np.sqrt(spectra.power)
    rate = spectra.sample_rate
    centroid = librosa.feature.spectral_centroid(S=magnitude, sr=rate)
    curves = [
        np.log(librosa.feature.spectral_flatness(S=magnitude)),
        np.log(centroid + 1),
        librosa.feature.zero_crossing_rate(
            spectra.samples, frame_length=spectra.n_fft, hop_length=spectra.hop
        ),
        np.log(librosa.feature.spectral_bandwidth(S=magnitude, sr=rate, centroid=centroid) + 1),
        np.log(librosa.feature.spectral_rolloff(S=magnitude, sr=rate) + 1),
        _loudness(spectra)[None],
    ]
    return np.concatenate([np.percentile(curve, [10, 50, 90]) for curve in curves])


def _loudness(spectra: Spectra) -> Vector:
    energy = spectra.power.sum(axis=0).astype(np.float64)
    decibel = 10 * np.log10(energy + 1e-9)
    return np.asarray(decibel - np.median(decibel), np.float64)


def rhythm(spectra: Spectra) -> Vector:
    """Return 34 values of how loudness pulses.

    Onset strength: mean, deviation, 95th percentile, share of frames over twice the mean;
    then the modulation spectrum of 12 groups of mel bands at 0.3 to 20 Hz, as the first
    6 x 5 coefficients of its cosine transform (Pampalk, fluctuation patterns, 2002).
    """
    onset = _onset(spectra)
    peaks = [onset.mean(), onset.std(), np.percentile(onset, 95), (onset > 2 * onset.mean()).mean()]
    curves = np.stack([group.mean(axis=0) for group in np.array_split(spectra.mel, _GROUPS)])
    width = round(_MODULATION_SECONDS * spectra.frame_rate)
    if curves.shape[1] < width:
        curves = np.pad(curves, ((0, 0), (0, width - curves.shape[1])), mode="edge")
    curves = curves - curves.mean(axis=1, keepdims=True)
    window = np.hanning(width)
    starts = range(0, curves.shape[1] - width + 1, width // 2)
    spectrum = np.mean(
        [np.abs(np.fft.rfft(curves[:, at : at + width] * window, axis=1)) for at in starts], axis=0
    )
    hertz = np.fft.rfftfreq(width, 1 / spectra.frame_rate)
    bands = [
        spectrum[:, (hertz >= low) & (hertz < high)].mean(axis=1)
        for low, high in pairwise(_MODULATION_HZ)
    ]
    pattern = scipy.fft.dctn(np.log(np.stack(bands, axis=1) / width + 1e-3), norm="ortho")
    return np.concatenate([peaks, pattern[:6, :5].ravel()])


def _onset(spectra: Spectra) -> Vector:
    strength = librosa.onset.onset_strength(
        S=spectra.mel, sr=spectra.sample_rate, hop_length=spectra.hop
    )
    return np.asarray(strength, np.float64)


def tempo(spectra: Spectra) -> Vector:
    """Return 14 values: mean tempogram (0 to 1) in 12 bins of 30 to 300 BPM, and its peak.

    The peak is given as log2 of BPM / 120 and its height.
    """
    gram = librosa.feature.tempogram(
        onset_envelope=_onset(spectra), sr=spectra.sample_rate, hop_length=spectra.hop
    ).mean(axis=1)
    bpm = 60 * spectra.frame_rate / np.arange(1, len(gram))
    edges = np.geomspace(30, 300, 13)
    bins = [gram[1:][(bpm >= low) & (bpm < high)].mean() for low, high in pairwise(edges)]
    inside = np.flatnonzero((bpm >= 50) & (bpm <= 220))
    best = inside[int(np.argmax(gram[1:][inside]))]
    return np.array([*bins, np.log2(bpm[best] / 120), gram[1 + best]])


def harmony(spectra: Spectra) -> Vector:
    """Return 26 values of pitch.

    Mean chroma (unit length, C to B); the six moduli of its Fourier transform, which do not
    depend on the key; its entropy (nats); change from frame to frame; deviation; similarity
    of the chroma to itself after 0.02, 0.1, 0.4, 1 and 2 s.
    """
    chroma = librosa.feature.chroma_stft(
        S=spectra.power, sr=spectra.sample_rate, tuning=0.0
    ).astype(np.float64)
    mean = chroma.mean(axis=1)
    share = mean / (mean.sum() + 1e-9)
    unit = chroma / (np.linalg.norm(chroma, axis=0) + 1e-9)
    lags = [max(1, round(seconds * spectra.frame_rate)) for seconds in (0.02, 0.1, 0.4, 1.0, 2.0)]
    similar = [
        (unit[:, :-lag] * unit[:, lag:]).sum(axis=0).mean() if unit.shape[1] > lag else 0.0
        for lag in lags
    ]
    change = np.abs(np.diff(chroma, axis=1)).mean() if chroma.shape[1] > 1 else 0.0
    return np.concatenate(
        [
            mean / (np.linalg.norm(mean) + 1e-9),
            np.abs(np.fft.rfft(share))[1:],
            [-(share * np.log(share + 1e-9)).sum(), change, chroma.std()],
            similar,
        ]
    )


BLOCKS: dict[str, Callable[[Spectra], Vector]] = {
    "log_mel": log_mel,
    "timbre": timbre,
    "brightness": brightness,
    "rhythm": rhythm,
    "tempo": tempo,
    "harmony": harmony,
}
