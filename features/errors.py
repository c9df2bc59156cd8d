"""Defines the errors of this package, and the closed set of reasons to reject a media file."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a media file gave no features; the value is the code in table quarantine."""

    MISSING = "missing"
    UNREADABLE = "unreadable"
    EMPTY = "empty"
    HASH_MISMATCH = "hash_mismatch"
    TOO_LARGE = "too_large"
    TOO_LONG = "too_long"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_MANY_STREAMS = "too_many_streams"
    UNSUPPORTED_CONTAINER = "unsupported_container"
    NO_VIDEO = "no_video"
    NO_AUDIO = "no_audio"
    UNDECODABLE = "undecodable"
    TRUNCATED = "truncated"
    BAD_SEGMENT = "bad_segment"
    CRASHED = "crashed"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"

    @property
    def meaning(self) -> str:
        """One sentence that says what happened."""
        return _GUIDANCE[self].meaning

    @property
    def remedy(self) -> str:
        """One or two sentences that say what to do."""
        return _GUIDANCE[self].remedy

    @property
    def is_transient(self) -> bool:
        """Whether a retry can succeed because the machine, not the file, may be the cause."""
        return _GUIDANCE[self].is_transient


@dataclass(frozen=True)
class _Guidance:
    meaning: str
    remedy: str
    is_transient: bool = False


_GUIDANCE: dict[Reason, _Guidance] = {
    Reason.MISSING: _Guidance(
        "The manifest names a file that does not exist.",
        "Have the file delivered, then run the day again.",
    ),
    Reason.UNREADABLE: _Guidance(
        "The path is not a regular file, or the operating system refuses to read it.",
        "Check the file's owner and mode, and the disk. Then run the day again.",
        is_transient=True,
    ),
    Reason.EMPTY: _Guidance(
        "The file has zero bytes.",
        "Have the file delivered again.",
    ),
    Reason.HASH_MISMATCH: _Guidance(
        "The file does not have the sha256 of its row in the manifest.",
        "The file was changed or damaged in transfer. Have it delivered again.",
    ),
    Reason.TOO_LARGE: _Guidance(
        "The file is larger than `[limits] bytes`, or decodes to more than `decoded_bytes`.",
        "Raise that limit if you want such files.",
    ),
    Reason.TOO_LONG: _Guidance(
        "The file is longer than `[limits] seconds`, or has more than `frames` frames.",
        "Raise that limit if you want such files.",
    ),
    Reason.TOO_MANY_PIXELS: _Guidance(
        "A frame has more pixels than `[limits] pixels` allows.",
        "Raise `pixels` and `memory` together if you want such files.",
    ),
    Reason.TOO_MANY_STREAMS: _Guidance(
        "The container has more streams than `[limits] streams` allows.",
        "Inspect the file before you raise `streams`: an ordinary clip has two.",
    ),
    Reason.UNSUPPORTED_CONTAINER: _Guidance(
        "The container format is not on the allow-list.",
        "Have the media file itself delivered, not a playlist, an archive or a picture.",
    ),
    Reason.NO_VIDEO: _Guidance(
        "The file has no moving picture.",
        "Check whether the row belongs in manifest `music`, not `videos`.",
    ),
    Reason.NO_AUDIO: _Guidance(
        "The file has no sound.",
        "Check whether the row names the right file. A track of silence is accepted.",
    ),
    Reason.UNDECODABLE: _Guidance(
        "Neither decoder can decode the stream into frames or samples.",
        "Play the file in another program. If it plays, report its codec as unsupported; if not, "
        "have it delivered again.",
    ),
    Reason.TRUNCATED: _Guidance(
        "More of the file is missing or damaged than `[limits] truncated_share` allows.",
        "Have the file delivered again, or raise `truncated_share` to accept what is left of it.",
    ),
    Reason.BAD_SEGMENT: _Guidance(
        "A segment of a music video starts or ends outside the file.",
        "Correct the segment's start and end, in seconds from the first frame.",
    ),
    Reason.CRASHED: _Guidance(
        "The decoder crashed on this file.",
        "Nothing: a later night retries it once. If it crashes again, report the file to the "
        "decoder's project.",
        is_transient=True,
    ),
    Reason.TIMED_OUT: _Guidance(
        "Decoding took longer than `[limits] wall_seconds` or `cpu_seconds`.",
        "Nothing: a later night retries it once. If it times out again on a machine that is not "
        "overloaded, inspect the file.",
        is_transient=True,
    ),
    Reason.OUT_OF_MEMORY: _Guidance(
        "Decoding needed more memory than `[limits] memory` allows.",
        "Nothing: a later night retries it once. Raise `memory` only if you want such files.",
        is_transient=True,
    ),
}


class MediaError(Exception):
    """One media file is rejected; the other files are processed.

    Attributes:
        reason: the code of the closed set.
        detail: one sentence with the numbers: what the file has and what is allowed.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail


class EncoderError(Exception):
    """A network, its configuration or the cache folder cannot be used; no file is the cause."""


class WorkerError(Exception):
    """A decoding process cannot start; no file is the cause."""
