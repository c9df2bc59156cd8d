"""Whether a file goes on to the end that it promises, where it promises one."""

from __future__ import annotations

from pathlib import Path

import av

from features.config import Limits
from features.container.declared_size import ends_inside, promised_bytes
from features.errors import MediaError, Reason

# Headers that tell the length of a stream of sound; elsewhere ffmpeg guesses it from the bit rate.
_TELL_LENGTH = {"mov,mp4,m4a,3gp,3g2,mj2", "flac", "wav", "w64", "aiff", "caf", "wv"}


def promised_seconds(stream: av.VideoStream | av.AudioStream) -> float:
    """Return how long the container says a stream is, 0 where it does not."""
    if not stream.duration or not stream.time_base:
        return 0.0
    return float(stream.duration * stream.time_base)


def promised_sound(container: av.container.InputContainer, stream: av.AudioStream) -> float:
    """Return how long a header says a stream of sound is, 0 where it is only a guess."""
    name = container.format.name
    # Only an MP3 with a header of its own (Xing, Info) names the encoder of the stream.
    told = name in _TELL_LENGTH or (name == "mp3" and "encoder" in stream.metadata)
    return promised_seconds(stream) if told else 0.0


def check_missing(share: float, limits: Limits) -> None:
    """Raise MediaError(truncated) when more of the promised length is missing than allowed."""
    if share > limits.truncated_share:
        raise MediaError(
            Reason.TRUNCATED,
            f"{share:.0%} of the promised length is missing, "
            f"{limits.truncated_share:.0%} is allowed (limits.truncated_share)",
        )


def check_end(path: Path, container: str, limits: Limits) -> None:
    """Hold the size of a file against what its container (ffmpeg's name) says of its end.

    Raises:
        MediaError: truncated.
    """
    with path.open("rb") as file:
        promised = promised_bytes(file, container)
        unit = ends_inside(file, container) if limits.truncated_share < 1 else ""
    check_missing(1 - path.stat().st_size / promised if promised else 0.0, limits)
    if unit:
        raise MediaError(
            Reason.TRUNCATED, f"the file ends inside an {unit}; nothing tells how much follows"
        )
