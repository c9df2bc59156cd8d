"""Rejects files that are shorter than their own container declares."""

from __future__ import annotations

from pathlib import Path

import av

from features.config import Limits
from features.container.declared_size import declared_bytes, incomplete_unit
from features.errors import MediaError, Reason

# Formats whose header has the length of an audio stream. For the others FFmpeg estimates it
# from the bit rate.
_DECLARE_AUDIO_LENGTH = {"mov,mp4,m4a,3gp,3g2,mj2", "flac", "wav", "w64", "aiff", "caf", "wv"}


def declared_seconds(stream: av.VideoStream | av.AudioStream) -> float:
    """Return the duration that the container declares for a stream, 0 if it declares none."""
    if not stream.duration or not stream.time_base:
        return 0.0
    return float(stream.duration * stream.time_base)


def declared_audio_seconds(format_name: str, stream: av.AudioStream) -> float:
    """Return the duration that a header declares for audio, 0 if FFmpeg only estimates it.

    Args:
        format_name: FFmpeg's name of the container format.
        stream: an audio stream of that container.
    """
    # Only an MP3 with a header of its own (Xing, Info) names the encoder of the stream.
    declared = format_name in _DECLARE_AUDIO_LENGTH or (
        format_name == "mp3" and "encoder" in stream.metadata
    )
    return declared_seconds(stream) if declared else 0.0


def check_missing_share(share: float, limits: Limits) -> None:
    """Raise MediaError(truncated) if more of the declared length is missing than allowed.

    Args:
        share: missing part of the declared length, at most 1.
        limits: limits of one file.
    """
    if share > limits.truncated_share:
        raise MediaError(
            Reason.TRUNCATED,
            f"{share:.0%} of the declared length is missing; "
            f"{limits.truncated_share:.0%} is allowed (limits.truncated_share)",
        )


def check_file_end(path: Path, format_name: str, limits: Limits) -> None:
    """Compare the size of a file with what its container declares.

    Args:
        path: the file.
        format_name: FFmpeg's name of the container format.
        limits: limits of one file.

    Raises:
        MediaError: truncated.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        declared = declared_bytes(file, format_name)
        unit = incomplete_unit(file, format_name) if limits.truncated_share < 1 else ""
    check_missing_share(1 - path.stat().st_size / declared if declared else 0.0, limits)
    if unit:
        raise MediaError(
            Reason.TRUNCATED,
            f"the file ends inside an {unit}; the container does not declare how much follows",
        )
