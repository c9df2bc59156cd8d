"""Decodes sound with libsndfile where PyAV cannot, for an allow-list of formats.

By itself libsndfile tries about two dozen formats, and some of them read a second file beside the
first (the resource fork of Sound Designer II). Here the first bytes must be those of an allowed
format, and libsndfile receives an open file, not a name.
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

# libsndfile's name of each format, and the first bytes of its files.
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
# Frames per read; the last incomplete block of a truncated file is lost.
_BLOCK_FRAMES = 1 << 12
# The value by which libsndfile says that it does not know the length.
_UNKNOWN_LENGTH = (1 << 63) - 1


@contextmanager
def open_sound(media: MediaFile) -> Iterator[soundfile.SoundFile | None]:
    """Open a file of an allowed format; yield None for any other file."""
    with media.path.open("rb", buffering=0) as file:
        start = file.read(4)
        file.seek(0)
        try:
            # A duplicate, because libsndfile closes the descriptor if it cannot open the file.
            sound = soundfile.SoundFile(os.dup(file.fileno())) if _is_allowed(start) else None
        except (soundfile.LibsndfileError, RuntimeError, TypeError):
            sound = None
    if sound is None:
        yield None
        return
    with sound:
        is_expected = sound.format in _FORMATS and start.startswith(_FORMATS[sound.format])
        yield sound if is_expected else None


def _is_allowed(start: bytes) -> bool:
    return any(start.startswith(marks) for marks in _FORMATS.values())


def read_mono(media: MediaFile, max_seconds: float) -> tuple[int, Float32Array] | None:
    """Return the sample rate in Hz and the mean of the channels, float32 [n].

    Returns None if libsndfile cannot decode the file.

    Raises:
        MediaError: ``truncated``, ``too_large``, or ``undecodable`` for an implausible sample rate.
    """
    limits = media.limits
    budget = Budget(limits)
    parts: list[Float32Array] = []
    with open_sound(media) as sound:
        if sound is None:
            return None
        rate, declared = int(sound.samplerate), int(sound.frames)
        budget.check_sample_rate(rate)
        wanted = int(min(max_seconds, limits.seconds) * rate)
        left = wanted
        try:
            while left > 0 and len(block := sound.read(min(_BLOCK_FRAMES, left), "float32", True)):
                budget.add_samples(len(block), sound.channels, 4)
                parts.append(to_finite(block).mean(axis=1))
                left -= len(block)
        except (soundfile.LibsndfileError, RuntimeError):
            # The check below compares the decoded length with that of the header.
            pass
    if not parts:
        return None
    if declared != _UNKNOWN_LENGTH:
        check_missing_share(1 - (wanted - left) / max(1, min(wanted, declared)), limits)
    return rate, np.concatenate(parts)


def to_finite(values: npt.NDArray[np.floating]) -> Float32Array:
    """Return samples as float32 without NaN, infinities and values beyond -1000 to 1000.

    Larger values would overflow in sums. Values up to about 10, which lossy codecs produce, are
    kept.
    """
    values = np.nan_to_num(values, posinf=1.0, neginf=-1.0)
    return np.asarray(np.clip(values, -1e3, 1e3), np.float32)
