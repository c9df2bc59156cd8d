"""The second decoder for sound: libsndfile, where PyAV cannot, and only what it should open.

By itself it guesses among two dozen formats, some of which read a second file that lies beside
the first (the resource fork of Sound Designer II). Here the first bytes must be those of a
format on the list, and it gets an open file, no name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import soundfile

from features.arrays import Float32Array
from features.container.budget import Budget
from features.container.media_file import MediaFile
from features.container.truncation import check_missing_share

# libsndfile's name of each format, and what its files begin with.
_FORMATS = {
    "AIFF": (b"FORM",),
    "AU": (b".snd", b"dns."),
    "CAF": (b"caff",),
    "FLAC": (b"fLaC", b"ID3"),
    "MP3": (b"ID3", b"\xff"),
    "OGG": (b"OggS",),
    "RF64": (b"RF64",),
    "W64": (b"riff",),
    "WAV": (b"RIFF", b"RIFX"),
    "WAVEX": (b"RIFF", b"RIFX"),
}
# Frames; of a file that breaks off, the last block is lost.
_BLOCK = 1 << 12
# What libsndfile calls a length that it does not know.
_UNKNOWN_LENGTH = (1 << 63) - 1


@contextmanager
def open_sound(media: MediaFile) -> Iterator[soundfile.SoundFile | None]:
    """Open a file of an allowed format; None where it is no such file."""
    with media.path.open("rb", buffering=0) as file:
        start = file.read(4)
        file.seek(0)
        try:
            # A descriptor of its own: libsndfile closes what it could not open.
            sound = soundfile.SoundFile(os.dup(file.fileno())) if _is_allowed(start) else None
        except (soundfile.LibsndfileError, RuntimeError, TypeError):
            sound = None
    if sound is None:
        yield None
        return
    with sound:
        known = sound.format in _FORMATS and start.startswith(_FORMATS[sound.format])
        yield sound if known else None


def _is_allowed(start: bytes) -> bool:
    return any(start.startswith(marks) for marks in _FORMATS.values())


def read_mono(media: MediaFile, max_seconds: float) -> tuple[int, Float32Array] | None:
    """Return (sample rate, mean of the channels), or None where libsndfile cannot read it either.

    Raises:
        MediaError: truncated, too_large, or a sample rate that is none.
    """
    limits = media.limits
    budget = Budget(limits)
    parts: list[Float32Array] = []
    with open_sound(media) as sound:
        if sound is None:
            return None
        rate, promised = int(sound.samplerate), int(sound.frames)
        budget.check_sample_rate(rate)
        wanted = int(min(max_seconds, limits.seconds) * rate)
        left = wanted
        try:
            while left > 0 and len(block := sound.read(min(_BLOCK, left), "float32", True)):
                budget.add_samples(len(block), sound.channels, 4)
                parts.append(finite(block).mean(axis=1))
                left -= len(block)
        except (soundfile.LibsndfileError, RuntimeError):
            # What came so far is held against what the header promises.
            pass
    if not parts:
        return None
    if promised != _UNKNOWN_LENGTH:
        check_missing_share(1 - (wanted - left) / max(1, min(wanted, promised)), limits)
    return rate, np.concatenate(parts)


def finite(values: npt.NDArray[np.floating]) -> Float32Array:
    """Return samples as float32 that can be averaged and resampled, whatever a file holds.

    Values far beyond full scale would overflow; those of lossy codecs, up to ten, stay.
    """
    values = np.nan_to_num(values, posinf=1.0, neginf=-1.0)
    return np.asarray(np.clip(values, -1e3, 1e3), np.float32)
