"""Synthesises music in six genres that differ audibly and measurably.

A genre is a `Style` (scale, chords, instruments, drum pattern). The `MusicControls` of a track vary
its tempo, brightness, density and so on within the genre. The instruments are wavetables: one
period of a sound, read at the speed of the note.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.signal import fftconvolve

from models.arrays import Float32Array
from simulation.encode import SAMPLE_RATE
from simulation.styles import STYLES, Style

_TABLE = 4096
_STEPS_PER_BAR = 16
_SWELL_SECONDS = 4.0
_LEVEL = 0.12


@dataclass(frozen=True)
class MusicControls:
    """Controls of a track within its genre, each in [0, 1]; they come from the track's latent.

    Attributes:
        tempo: slow to fast, within the genre's range.
        brightness: dull to bright; tilt of the spectrum.
        density: few to many notes of the lead per bar.
        register: low to high pitch of the lead, over an octave and a half.
        hardness: soft to hard attacks, and quiet to loud drums.
        richness: few to many partials of the lead.
        space: dry to reverberant.
        swell: steady loudness to loudness that rises and falls every four seconds.
    """

    tempo: float
    brightness: float
    density: float
    register: float
    hardness: float
    richness: float
    space: float
    swell: float


@dataclass
class _Score:
    """One buffer float32 [T] per part of the band."""

    length: int
    lead: Float32Array = field(init=False)
    pad: Float32Array = field(init=False)
    bass: Float32Array = field(init=False)
    drums: Float32Array = field(init=False)

    def __post_init__(self) -> None:
        self.lead, self.pad, self.bass, self.drums = (
            np.zeros(self.length, np.float32) for _ in range(4)
        )


def make_music(
    genre: str, controls: MusicControls, seconds: float, rng: np.random.Generator
) -> Float32Array:
    """Synthesise a piece of music.

    Args:
        genre: one of `simulation.styles.GENRE_GROUPS`.
        controls: the controls of the track.
        seconds: length of the piece.
        rng: source of key, melody and noise.

    Returns:
        float32 [2, T], stereo samples in [-1, 1] at `SAMPLE_RATE`.

    Raises:
        KeyError: the genre is unknown.
    """
    style = STYLES[genre]
    score = _Score(round(seconds * SAMPLE_RATE))
    key = int(rng.integers(-3, 4))
    step = 60.0 / _between(style.bpm, controls.tempo) / 4.0
    for bar in range(int(seconds / (step * _STEPS_PER_BAR)) + 1):
        start = bar * step * _STEPS_PER_BAR
        degree = style.chords[bar % len(style.chords)]
        _play_bar(score, style, controls, key, degree, start, step, rng)
    return _master(_mix(score, style, controls), style, controls, rng)


def make_ambience(liveliness: float, seconds: float, rng: np.random.Generator) -> Float32Array:
    """Synthesise ambient sound without music: wind, hum and steps.

    Args:
        liveliness: quiet to busy, in [0, 1].
        seconds: length of the sound.
        rng: source of the noise.

    Returns:
        float32 [2, T], stereo samples in [-1, 1] at `SAMPLE_RATE`.
    """
    count = round(seconds * SAMPLE_RATE)
    wind = _filter(rng.standard_normal(count), 150.0 + 900.0 * liveliness, 1.5)
    swell = 1.0 + 0.4 * np.sin(2.0 * np.pi * np.arange(count) / SAMPLE_RATE / 3.1)
    scene = np.asarray(0.03 * wind * swell / wind.std(), np.float32)
    for _ in range(round(seconds * 3.0 * liveliness)):
        _add(scene, float(rng.uniform(0.0, seconds)), 0.1 * _drum("tap"))
    return np.asarray(np.tanh(np.stack([scene, scene])), np.float32)


def _between(ends: tuple[float, float], share: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * share


def _play_bar(
    score: _Score,
    style: Style,
    controls: MusicControls,
    key: int,
    degree: int,
    start: float,
    step: float,
    rng: np.random.Generator,
) -> None:
    bar = step * _STEPS_PER_BAR
    pad_table = _table(style.rolloff + 0.4, style.odd_only, 12)
    for third in (0, 2, 4):
        pitch = key + style.lead_octave - 12 + _scale_note(style.scale, degree + third)
        _add(score.pad, start, _note(pad_table, pitch, bar * 1.1, style.attack * 2, bar) * 0.4)
    bass_table = _table(1.6, False, 6)
    root = key + 36 + _scale_note(style.scale, degree) % 12
    for position in (0, 6, 8, 14) if "kick" in style.drums else (0, 8):
        _add(score.bass, start + position * step, _note(bass_table, root, step * 6, 0.01, 0.4))
    _play_lead(score, style, controls, key, degree, start, step, rng)
    for drum, pattern in style.drums.items():
        for position, stroke in enumerate(pattern):
            if stroke == "1":
                _add(score.drums, start + position * step, _drum(drum))


def _play_lead(
    score: _Score,
    style: Style,
    controls: MusicControls,
    key: int,
    degree: int,
    start: float,
    step: float,
    rng: np.random.Generator,
) -> None:
    table = _table(style.rolloff * (1.35 - 0.7 * controls.richness), style.odd_only, 30)
    attack = style.attack * 8.0 ** (0.5 - controls.hardness)
    notes = round(2 + 12 * controls.density)
    positions = np.sort(rng.permutation(_STEPS_PER_BAR)[:notes])
    lift = key + style.lead_octave + round(18 * controls.register) - 9
    for position in positions:
        pitch = lift + _scale_note(style.scale, degree + int(rng.choice((0, 2, 4, 1, 7))))
        length = min(3.0 * style.decay, step * _STEPS_PER_BAR)
        _add(score.lead, start + position * step, _note(table, pitch, length, attack, style.decay))


def _scale_note(scale: tuple[int, ...], degree: int) -> int:
    octave, index = divmod(degree, len(scale))
    return 12 * octave + scale[index]


@lru_cache(maxsize=256)
def _table(rolloff: float, odd_only: bool, partials: int) -> Float32Array:
    phase = np.arange(_TABLE) * (2.0 * np.pi / _TABLE)
    numbers = np.arange(1, partials + 1, 2 if odd_only else 1)
    waves = np.sin(np.outer(numbers, phase)) * (numbers[:, None] ** -rolloff)
    wave = waves.sum(axis=0)
    return np.asarray(wave / np.sqrt(np.mean(wave**2)), np.float32)


def _note(
    table: Float32Array, pitch: float, seconds: float, attack: float, decay: float
) -> Float32Array:
    time = np.arange(round(seconds * SAMPLE_RATE), dtype=np.float32) / SAMPLE_RATE
    frequency = 440.0 * 2.0 ** ((pitch - 69.0) / 12.0)
    positions = (time * np.float32(frequency * _TABLE)).astype(np.int64) % _TABLE
    envelope = np.minimum(time / attack, 1.0) * np.exp(-time / decay)
    release = np.minimum((time[-1] - time) / 0.02, 1.0)
    return np.asarray(0.3 * table[positions] * envelope * release, np.float32)


@lru_cache(maxsize=16)
def _drum(name: str) -> Float32Array:
    rng = np.random.default_rng(7)
    time = np.arange(round(0.35 * SAMPLE_RATE)) / SAMPLE_RATE
    noise = rng.standard_normal(time.size)
    hiss = np.diff(noise, prepend=0.0)
    sweep = np.sin(2.0 * np.pi * (50.0 * time + 6.0 * (1.0 - np.exp(-time / 0.04))))
    stroke = {
        "kick": sweep * np.exp(-time / 0.11),
        "snare": 0.4 * noise * np.exp(-time / 0.07)
        + 0.5 * np.sin(2.0 * np.pi * 185.0 * time) * np.exp(-time / 0.05),
        "clap": 0.4 * noise * np.exp(-time / 0.05),
        "hat": 0.22 * hiss * np.exp(-time / 0.03),
        "shaker": 0.2 * hiss * np.sin(np.pi * np.minimum(time / 0.1, 1.0)),
        "tap": 0.6 * np.sin(2.0 * np.pi * 110.0 * time) * np.exp(-time / 0.06),
        "timpani": np.sin(2.0 * np.pi * 73.0 * time) * np.exp(-time / 0.2),
    }[name]
    return np.asarray(stroke, np.float32)


def _add(buffer: Float32Array, start: float, sound: Float32Array) -> None:
    first = round(start * SAMPLE_RATE)
    room = buffer.size - first
    if room > 0:
        buffer[first : first + sound.size] += sound[:room]


def _mix(score: _Score, style: Style, controls: MusicControls) -> Float32Array:
    lead, pad, bass, drums = style.levels
    tonal = lead * score.lead + pad * score.pad + bass * score.bass
    if style.drive:
        tonal = np.tanh(style.drive * tonal) / max(1.0, 0.4 * style.drive)
    beat = drums * (0.5 + controls.hardness)
    return np.asarray(tonal + beat * score.drums, np.float32)


def _filter(sound: NDArray[Any], cutoff: float, slope: float) -> NDArray[Any]:
    """Attenuate frequencies above `cutoff` Hz; a `slope` of 1 is 6 dB per octave."""
    size = fft.next_fast_len(sound.size, real=True)
    frequencies = fft.rfftfreq(size, 1.0 / SAMPLE_RATE)
    gain = 1.0 / (1.0 + (frequencies / cutoff) ** slope)
    filtered: NDArray[Any] = fft.irfft(fft.rfft(sound, size) * gain, size)[: sound.size]
    return filtered


def _master(
    dry: Float32Array, style: Style, controls: MusicControls, rng: np.random.Generator
) -> Float32Array:
    cutoff = _between(style.cutoff, controls.brightness)
    toned = _filter(dry, cutoff, 2.0)
    decay = 0.15 + 1.2 * controls.space
    time = np.arange(round(2.0 * decay * SAMPLE_RATE)) / SAMPLE_RATE
    wet_share = 0.06 + 0.3 * controls.space
    sides = []
    for _ in range(2):
        room = rng.standard_normal(time.size) * np.exp(-time / (decay / 3.0))
        wet = fftconvolve(toned, room / np.sqrt(np.sum(room**2)))[: dry.size]
        sides.append((1.0 - wet_share) * toned + wet_share * wet)
    stereo = np.stack(sides)
    phase = np.arange(dry.size) * (2.0 * np.pi / (_SWELL_SECONDS * SAMPLE_RATE))
    stereo *= 1.0 - 0.85 * controls.swell * (0.5 + 0.5 * np.cos(phase))
    stereo *= _LEVEL / (np.sqrt(np.mean(stereo**2)) + 1e-9)
    return np.asarray(np.tanh(stereo), np.float32)
