"""Computes statistics of music: timbre, brightness, rhythm, tempo, harmony.

All use one short-time Fourier transform of the sound at a fixed loudness, computed with librosa
(McFee et al., SciPy 2015). Inaudible sound is masked first (``features.sound.masking``). Logarithms
and quotients have an offset of about the smallest audible difference; without it they would measure
noise where the sound hardly varies.
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
from features.sound.masking import mask_inaudible

# All sound is scaled to this RMS (full scale is 1).
TARGET_RMS = 0.1
# Dynamic range of the stored spectrogram, in dB.
MEL_DB = 80.0
# A frame this far below the mean power has half the weight (the gate of EBU Tech 3342).
GATE_DB = 20.0
# Zero crossings of samples below this share of the loudest sample are ignored as noise.
_CROSSING_THRESHOLD = 0.003

_MFCC = 13
_MFCC_OFFSET_DB = 1.0
_CORRELATED_MFCC = 8
_CORRELATION_OFFSET_DB = 3.0
_MEL_GROUPS = 12
_MODULATION_HZ = (0.3, 0.7, 1.3, 2.3, 4.0, 7.0, 12.0, 20.0)
_MODULATION_SECONDS = 6.0
_MODULATION_OFFSET_DB = 0.05
_ONSET_OFFSET_DB = 0.1
_PULSE_OFFSET_DB = 0.2


@dataclass(frozen=True)
class Spectra:
    """Transforms of a sound that several blocks use.

    Attributes:
        samples: samples scaled to ``TARGET_RMS``, float32 [n].
        log_mel: log-mel spectrogram in dB relative to its maximum (-80 to 0), float32 [n_mels, T];
            it is stored with the features.
        power: power spectrogram after masking, float32 [1 + n_fft / 2, T].
        mel: log-mel spectrogram of ``power`` in dB relative to its maximum, float32 [n_mels, T].
        mfcc: mel-frequency cepstral coefficients of ``mel``, float32 [13, T].
        sample_rate: sample rate in Hz.
        n_fft: samples per transform.
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
    """Compute the transforms of a mono sound, float32 [n].

    A sound shorter than one window is padded with silence.
    """
    if len(samples) < config.n_fft:
        samples = np.pad(samples, (0, config.n_fft - len(samples)))
    rms = float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))
    scaled = samples * np.float32(TARGET_RMS / rms) if rms > 1e-6 else samples
    power = np.abs(librosa.stft(scaled, n_fft=config.n_fft, hop_length=config.hop)) ** 2
    bank = librosa.filters.mel(sr=config.sample_rate, n_fft=config.n_fft, n_mels=config.n_mels)
    log_mel = librosa.power_to_db(bank @ power, ref=np.max, top_db=MEL_DB)
    power = mask_inaudible(power, bank, config.sample_rate)
    mel = librosa.power_to_db(bank @ power, ref=np.max, top_db=MEL_DB)
    mfcc = librosa.feature.mfcc(S=mel, n_mfcc=_MFCC)
    return Spectra(scaled, log_mel, power, mel, mfcc, config.sample_rate, config.n_fft, config.hop)


def log_mel(spectra: Spectra) -> Float64Array:
    """Return mean and standard deviation of each mel band in dB, [2 * n_mels]: the baseline."""
    decibel = spectra.log_mel.astype(np.float64)
    return np.concatenate([decibel.mean(axis=1), decibel.std(axis=1)])


def timbre(spectra: Spectra) -> Float64Array:
    """Return 71 values of the timbre.

    They are, of MFCC 1 to 12, the mean, the log standard deviation and the log mean change from
    frame to frame; the correlations between the first 8 of them (-1 to 1); and the mean spectral
    contrast in 7 octaves (dB). All are of means of pairs of frames, because codecs change single
    frames, weighted by loudness.
    """
    contrast = librosa.feature.spectral_contrast(S=np.sqrt(spectra.power), sr=spectra.sample_rate)
    mfcc = _pair_means(spectra.mfcc[1:])
    weight = _loudness_weights(_pair_means(spectra.power.sum(axis=0)[None])[0])
    mean = mfcc @ weight
    centred = mfcc - mean[:, None]
    covariance = (centred * weight) @ centred.T
    deviation = np.sqrt(np.diag(covariance))
    scale = deviation[:_CORRELATED_MFCC] + _CORRELATION_OFFSET_DB
    correlation = covariance[:_CORRELATED_MFCC, :_CORRELATED_MFCC] / np.outer(scale, scale)
    # The softer of two frames decides how audible the change between them is.
    pair_weight = np.sqrt(weight[1:] * weight[:-1])
    step = np.abs(np.diff(mfcc)) @ pair_weight / max(pair_weight.sum(), 1e-12)
    return np.concatenate(
        [
            mean,
            np.log(deviation + _MFCC_OFFSET_DB),
            np.log(step + _MFCC_OFFSET_DB),
            correlation[np.triu_indices(_CORRELATED_MFCC, 1)],
            _pair_means(contrast) @ weight,
        ]
    )


def _pair_means(curves: npt.NDArray[np.floating]) -> Float64Array:
    """Return the means of pairs of frames, [K, T // 2], of curves [K, T]; of one frame, itself."""
    even = curves.shape[1] // 2 * 2
    values = curves.astype(np.float64)
    return values[:, :even].reshape(len(values), -1, 2).mean(axis=2) if even else values


def _loudness_weights(energy: Float64Array) -> Float64Array:
    """Return weights [T] with sum 1 of frames with the given energy [T]; soft frames are near 0."""
    gate = energy.mean() * 10 ** (-GATE_DB / 10)
    weight = (energy + 1e-12) / (energy + gate + 1e-12)
    return np.asarray(weight / weight.sum(), np.float64)


def brightness(spectra: Spectra) -> Float64Array:
    """Return 18 values: the 10th, 50th and 90th percentiles over time of six curves.

    The curves are log flatness (0 is white noise), log centroid (of Hz), zero crossings per sample,
    log bandwidth and log roll-off (of Hz), and loudness relative to its median (dB).
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
            threshold=_CROSSING_THRESHOLD * np.abs(spectra.samples).max(),
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
    """Return 33 values of the rhythm.

    They are the log of mean, standard deviation and 95th percentile of the onset strength, and the
    modulation spectrum of 12 groups of mel bands from 0.3 to 20 Hz, as the first 6 x 5 coefficients
    of its cosine transform (fluctuation patterns: Pampalk, Rauber and Merkl, ACM Multimedia 2002).
    """
    onset = _onset(spectra)
    strength = [onset.mean(), onset.std(), np.percentile(onset, 95)]
    curves = np.stack([group.mean(axis=0) for group in np.array_split(spectra.mel, _MEL_GROUPS)])
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
    """Return 4 values of the tempo, from the mean tempogram.

    The first two are a point whose angle is the tempo within its octave (30, 60 and 120 BPM have
    one angle) and whose length grows with the clarity of the pulse (cyclic tempogram: Grosche,
    Mueller and Kurth, ICASSP 2010). The others are the highest value from 50 to 220 BPM, and its
    difference from the median there (both 0 to 1).
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
    """Return 26 values of the harmony.

    They are the mean chroma (unit length, C to B); the six moduli of its Fourier transform, which
    do not depend on the key; its entropy (nats); the chroma's mean change from frame to frame and
    standard deviation; and its mean cosine similarity to itself after 0.02, 0.1, 0.4, 1 and 2 s.
    """
    chroma = librosa.feature.chroma_stft(
        S=spectra.power, sr=spectra.sample_rate, tuning=0.0
    ).astype(np.float64)
    mean = chroma.mean(axis=1)
    share = mean / (mean.sum() + 1e-9)
    unit = chroma / (np.linalg.norm(chroma, axis=0) + 1e-9)
    lags = [max(1, round(seconds * spectra.frame_rate)) for seconds in (0.02, 0.1, 0.4, 1.0, 2.0)]
    similarity = [
        (unit[:, :-lag] * unit[:, lag:]).sum(axis=0).mean() if unit.shape[1] > lag else 0.0
        for lag in lags
    ]
    change = np.abs(np.diff(chroma, axis=1)).mean() if chroma.shape[1] > 1 else 0.0
    return np.concatenate(
        [
            mean / (np.linalg.norm(mean) + 1e-9),
            np.abs(np.fft.rfft(share))[1:],
            [-(share * np.log(share + 1e-9)).sum(), change, chroma.std()],
            similarity,
        ]
    )


# Each block maps Spectra to float64 [dims]. The block "network" is in features/sound/extractor.py.
BLOCKS: dict[str, Callable[[Spectra], Float64Array]] = {
    "log_mel": log_mel,
    "timbre": timbre,
    "brightness": brightness,
    "rhythm": rhythm,
    "tempo": tempo,
    "harmony": harmony,
}
