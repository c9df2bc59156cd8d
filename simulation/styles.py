"""Defines the six genre groups of music and the style of each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Style:
    """The properties that all tracks of a genre group share.

    Attributes:
        bpm: slowest and fastest tempo in beats per minute.
        scale: steps of the scale in semitones above the key.
        chords: scale degree of the chord of each bar, repeated.
        lead_octave: MIDI note at which the register of the lead starts.
        rolloff: exponent by which the partials of the lead decrease; small is bright.
        odd_only: whether the lead has only odd partials, like a clarinet.
        attack: seconds until a note of the lead is at full level.
        decay: seconds until a note of the lead has fallen to 1/e.
        drums: drum -> pattern of sixteen steps; each character 1 is a stroke.
        levels: levels of lead, pad, bass and drums in the mix.
        drive: gain before the soft clipping of lead, pad and bass; 0 means no clipping.
        cutoff: cutoff frequency in Hz at brightness 0 and 1.
    """

    bpm: tuple[float, float]
    scale: tuple[int, ...]
    chords: tuple[int, ...]
    lead_octave: int
    rolloff: float
    odd_only: bool
    attack: float
    decay: float
    drums: dict[str, str]
    levels: tuple[float, float, float, float]
    drive: float
    cutoff: tuple[float, float]


_MAJOR = (0, 2, 4, 5, 7, 9, 11)
_MINOR = (0, 2, 3, 5, 7, 8, 10)

STYLES: dict[str, Style] = {
    "electronic": Style(
        bpm=(114, 138),
        scale=_MINOR,
        chords=(0, 0, 3, 6),
        lead_octave=60,
        rolloff=0.8,
        odd_only=False,
        attack=0.003,
        decay=0.15,
        drums={"kick": "1000100010001000", "hat": "0010001000100010", "clap": "0000100000001000"},
        levels=(0.7, 0.3, 0.7, 1.0),
        drive=0.6,
        cutoff=(3500, 9000),
    ),
    "rock": Style(
        bpm=(136, 180),
        scale=(0, 2, 4, 5, 7, 9, 10),
        chords=(0, 6, 3, 0),
        lead_octave=52,
        rolloff=0.7,
        odd_only=False,
        attack=0.003,
        decay=0.8,
        drums={"kick": "1000000110100000", "snare": "0000100000001000", "hat": "1010101010101010"},
        levels=(0.9, 0.8, 0.6, 0.8),
        drive=5.0,
        cutoff=(2600, 6000),
    ),
    "hiphop": Style(
        bpm=(68, 94),
        scale=_MINOR,
        chords=(0, 0, 5, 4),
        lead_octave=55,
        rolloff=1.8,
        odd_only=False,
        attack=0.01,
        decay=0.5,
        drums={"kick": "1000001001000000", "snare": "0000100000001000", "hat": "1010101010101010"},
        levels=(0.3, 0.15, 1.0, 0.9),
        drive=0.0,
        cutoff=(900, 2800),
    ),
    "folk": Style(
        bpm=(84, 116),
        scale=_MAJOR,
        chords=(0, 4, 5, 3),
        lead_octave=60,
        rolloff=1.2,
        odd_only=False,
        attack=0.004,
        decay=0.35,
        drums={"tap": "1000001010000010", "shaker": "0010001000100010"},
        levels=(1.0, 0.1, 0.4, 0.25),
        drive=0.0,
        cutoff=(2200, 5500),
    ),
    "pop": Style(
        bpm=(94, 118),
        scale=_MAJOR,
        chords=(0, 4, 5, 3),
        lead_octave=72,
        rolloff=1.6,
        odd_only=False,
        attack=0.006,
        decay=0.6,
        drums={"kick": "1000000010000000", "clap": "0000100000001000"},
        levels=(0.8, 0.9, 0.5, 0.5),
        drive=0.0,
        cutoff=(2500, 7000),
    ),
    "classical": Style(
        bpm=(76, 124),
        scale=(0, 2, 3, 5, 7, 8, 11),
        chords=(0, 3, 4, 0),
        lead_octave=67,
        rolloff=1.1,
        odd_only=True,
        attack=0.09,
        decay=0.9,
        drums={"timpani": "1000000000000010"},
        levels=(1.0, 0.5, 0.3, 0.6),
        drive=0.0,
        cutoff=(900, 6000),
    ),
}

# Names of the genre groups in the world's order: the most common group first.
GENRE_GROUPS = tuple(STYLES)
