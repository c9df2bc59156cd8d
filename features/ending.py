"""Whether a file goes on to the end that it promises, where it promises one."""

from __future__ import annotations

import os
from pathlib import Path

import av

from features.config import Limits
from features.errors import MediaError, Reason

# Headers that tell the length of a stream of sound; elsewhere ffmpeg guesses it from the bit rate.
_TELL_LENGTH = {"mov,mp4,m4a,3gp,3g2,mj2", "flac", "wav", "w64", "aiff", "caf"}
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
# The longest Ogg page: a header of 27 bytes, 255 lengths, 255 segments of 255 bytes.
_OGG_PAGE = 27 + 255 + 255 * 255


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
    if container == "matroska,webm":
        promised = _matroska_bytes(path)
        check_missing(1 - path.stat().st_size / promised if promised else 0.0, limits)
    elif container == "ogg" and limits.truncated_share < 1 and _ends_inside_a_page(path):
        raise MediaError(
            Reason.TRUNCATED, "the file ends inside an Ogg page; nothing tells how much follows"
        )


def _matroska_bytes(path: Path) -> int:
    """Return where the segment of a Matroska file (RFC 9559) ends, 0 where it does not say."""
    with path.open("rb") as file:
        head = file.read(4096)
    length, width = _number(head[4:12])
    at = 4 + width + length
    if not head.startswith(_EBML) or head[at : at + 4] != _SEGMENT:
        return 0
    length, width = _number(head[at + 4 : at + 12])
    return at + 4 + width + length if length else 0


def _number(data: bytes) -> tuple[int, int]:
    """Return an EBML number (RFC 8794), 0 where it says "unknown", and how many bytes it takes."""
    width = 9 - data[0].bit_length() if data else 1
    value = int.from_bytes(data[:width]) & ((1 << 7 * width) - 1)
    return (0 if value == (1 << 7 * width) - 1 else value), width


def _ends_inside_a_page(path: Path) -> bool:
    """Return whether the last page of an Ogg file (RFC 3533) is longer than what is left."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 2 * _OGG_PAGE))
        tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS\0")) :]
    return len(page) < 27 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])
