"""Statistics of music: timbre, brightness, rhythm, tempo, harmony.

All of them come from one short-time Fourier transform of sound that was brought to one
loudness, by librosa's functions (McFee et al., SciPy 2015). Statistics see only what can be
heard (see features/sound/masking.py). A logarithm or a quotient of a statistic has an offset of the
size at which differences stop to be heard, else it would measure noise in what hardly varies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import librosa
import numpy as np
import numpy.typing as npt
import scipy.fft

from features.arrays import Float32Array, Float64Array
from features.config import AudioConfig
from features.sound.masking import audible

# Loudness to which all sound is brought (RMS, full scale 1).
TARGET_RMS = 0.1
# Range of the spectrogram that is kept.
MEL_DB = 80.0
# Frames that far below the mean power count half: the gate of EBU Tech 3342 (loudness range).
GATE_DB = 20.0
# Below this share of the loudest sample, a zero crossing is one of noise.
_CROSSING = 0.003

_MFCC = 13
_MFCC_OFFSET_DB = 1.0
_CORRELATED = 8
_CORRELATION_OFFSET_DB = 3.0
_GROUPS = 12
_MODULATION_HZ = (0.3, 0.7, 1.3, 2.3, 4.0, 7.0, 12.0, 20.0)
_MODULATION_SECONDS = 6.0
_MODULATION_OFFSET_DB = 0.05
_ONSET_OFFSET_DB = 0.1
_PULSE_OFFSET_DB = 0.2


@dataclass(frozen=True)
class Spectra:
    """The transforms that the statistics share.

    Attributes:
        samples: float32 [n], at the target loudness.
        log_mel: float32 [n_mels, T], dB below its maximum (-80 to 0), to be kept.
        power: float32 [1 + n_fft / 2, T], of what can be heard.
        mel: float32 [n_mels, T], log-mel of ``power``, dB below its maximum.
        mfcc: float32 [13, T].
        sample_rate: Hz.
        n_fft: samples in a transform.
        hop: samples between frames.
    """

    samples: Float32Array
    log_mel: Float32Array
    power: Float32Array
    mel: Float32Array
    mfcc: Float32Array
    sample_rate: int
    n_fft: int
    hop: int

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop


def analyse(samples: Float32Array, config: AudioConfig) -> Spectra:
    """Transform mono sound float32 [n]; shorter than one window is padded with silence."""
    if len(samples) < config.n_fft:
        samples = np.pad(samples, (0, config.n_fft - len(samples)))
    rms = float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))
    scaled = samples * np.float32(TARGET_RMS / rms) if rms > 1e-6 else samples
    power = np.abs(librosa.stft(scaled, n_fft=config.n_fft, hop_length=config.hop)) ** 2
    bank = librosa.filters.mel(sr=config.sample_rate, n_fft=config.n_fft, n_mels=config.n_mels)
    log_mel = librosa.power_to_db(bank @ power, ref=np.max, top_db=MEL_DB)
    power = audible(power, bank, config.sample_rate)
    mel = librosa.power_to_db(bank @ power, ref=np.max, top_db=MEL_DB)
    mfcc = librosa.feature.mfcc(S=mel, n_mfcc=_MFCC)
    return Spectra(scaled, log_mel, power, mel, mfcc, config.sample_rate, config.n_fft, config.hop)


def log_mel(spectra: Spectra) -> Float64Array:
    """Return mean and deviation of each mel band in dB, [2 n_mels]: the plain baseline."""
    kept = spectra.log_mel.astype(np.float64)
    return np.concatenate([kept.mean(axis=1), kept.std(axis=1)])


def timbre(spectra: Spectra) -> Float64Array:
    """Return 71 values of the colour of the sound.

    MFCC 1 to 12: mean, log deviation, log mean step; correlations between the first 8 of them
    (-1 to 1); spectral contrast in 7 octaves, mean (dB). All of pairs of frames (codecs shake
    single ones), weighted by how much they are heard.
    """
    contrast = librosa.feature.spectral_contrast(S=np.sqrt(spectra.power), sr=spectra.sample_rate)
    mfcc, weight = _paired(spectra.mfcc[1:]), _weights(_paired(spectra.power.sum(axis=0)[None])[0])
    mean = mfcc @ weight
    apart = mfcc - mean[:, None]
    covariance = (apart * weight) @ apart.T
    deviation = np.sqrt(np.diag(covariance))
    wide = deviation[:_CORRELATED] + _CORRELATION_OFFSET_DB
    correlation = covariance[:_CORRELATED, :_CORRELATED] / np.outer(wide, wide)
    # A step is heard as much as the softer of its ends, or nearly.
    both = np.sqrt(weight[1:] * weight[:-1])
    step = np.abs(np.diff(mfcc)) @ both / max(both.sum(), 1e-12)
    return np.concatenate(
        [
            mean,
            np.log(deviation + _MFCC_OFFSET_DB),
            np.log(step + _MFCC_OFFSET_DB),
            correlation[np.triu_indices(_CORRELATED, 1)],
            _paired(contrast) @ weight,
        ]
    )


def _paired(curves: npt.NDArray[np.floating]) -> Float64Array:
    """Return the means of the pairs of frames of curves [K, T], or the curves of one frame."""
    even = curves.shape[1] // 2 * 2
    values = curves.astype(np.float64)
    return values[:, :even].reshape(len(values), -1, 2).mean(axis=2) if even else values


def _weights(energy: Float64Array) -> Float64Array:
    """Return how much frames of an energy [T] count, in sum 1: soft ones hardly."""
    gate = energy.mean() * 10 ** (-GATE_DB / 10)
    weight = (energy + 1e-12) / (energy + gate + 1e-12)
    return np.asarray(weight / weight.sum(), np.float64)


def brightness(spectra: Spectra) -> Float64Array:
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
            spectra.samples,
            frame_length=spectra.n_fft,
            hop_length=spectra.hop,
            threshold=_CROSSING * np.abs(spectra.samples).max(),
        ),
        np.log(librosa.feature.spectral_bandwidth(S=magnitude, sr=rate, centroid=centroid) + 1),
        np.log(librosa.feature.spectral_rolloff(S=magnitude, sr=rate) + 1),
        _loudness(spectra)[None],
    ]
    return np.concatenate([np.percentile(curve, [10, 50, 90]) for curve in curves])


def _loudness(spectra: Spectra) -> Float64Array:
    energy = spectra.power.sum(axis=0).astype(np.float64)
    decibel = 10 * np.log10(energy + 1e-9)
    return np.asarray(decibel - np.median(decibel), np.float64)


def rhythm(spectra: Spectra) -> Float64Array:
    """Return 33 values of how loudness pulses.

    Onset strength: log of mean, deviation and 95th percentile; then the modulation spectrum
    of 12 groups of mel bands at 0.3 to 20 Hz, as the first 6 x 5 coefficients of its cosine
    transform (Pampalk, fluctuation patterns, 2002).
    """
    onset = _onset(spectra)
    strength = [onset.mean(), onset.std(), np.percentile(onset, 95)]
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
    pattern = scipy.fft.dctn(
        np.log(np.stack(bands, axis=1) / width + _MODULATION_OFFSET_DB), norm="ortho"
    )
    return np.concatenate([np.log(np.add(strength, _ONSET_OFFSET_DB)), pattern[:6, :5].ravel()])


def _onset(spectra: Spectra) -> Float64Array:
    strength = librosa.onset.onset_strength(
        S=spectra.mel, sr=spectra.sample_rate, hop_length=spectra.hop
    )
    return np.asarray(strength, np.float64)


def tempo(spectra: Spectra) -> Float64Array:
    """Return 4 values of the pulse, from the mean tempogram.

    Where the tempo lies between one octave and the next (30, 60, 120 BPM are the same), as
    the cosine and sine of its angle, as long as the pulse is clear (cyclic tempogram: Grosche,
    Mueller and Kurth, ICASSP 2010); the highest value at 50 to 220 BPM, and how far it stands
    out from their median (0 to 1).
    """
    gram = librosa.feature.tempogram(
        onset_envelope=_onset(spectra), sr=spectra.sample_rate, hop_length=spectra.hop, norm=None
    )
    quiet = _PULSE_OFFSET_DB**2 * (np.hanning(len(gram)) ** 2).sum()
    pulse = (gram / (gram[0] + quiet)).mean(axis=1)[1:]
    lag = np.arange(1, len(gram))
    bpm = 60 * spectra.frame_rate / lag
    octaves = (bpm >= 30) & (bpm <= 480)
    weight = octaves / lag / (octaves / lag).sum()
    above = np.maximum(pulse - weight @ pulse, 0) * weight
    angle = 2 * np.pi * np.log2(bpm)
    beat = pulse[(bpm >= 50) & (bpm <= 220)]
    return np.array(
        [above @ np.cos(angle), above @ np.sin(angle), beat.max(), beat.max() - np.median(beat)]
    )


def harmony(spectra: Spectra) -> Float64Array:
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


BLOCKS: dict[str, Callable[[Spectra], Float64Array]] = {
    "log_mel": log_mel,
    "timbre": timbre,
    "brightness": brightness,
    "rhythm": rhythm,
    "tempo": tempo,
    "harmony": harmony,
}
