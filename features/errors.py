"""The closed set of reasons for which a media file can be rejected."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a media file gave no features; the value is the code stored in the quarantine."""

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
        """One sentence on what happened."""
        return GUIDANCE[self].meaning

    @property
    def remedy(self) -> str:
        """What a person can do about it."""
        return GUIDANCE[self].remedy

    @property
    def may_pass(self) -> bool:
        """Whether a second attempt can end differently: the cause may lie in the machine."""
        return GUIDANCE[self].may_pass


@dataclass(frozen=True)
class Guidance:
    """What the runbook says about a reason; see the properties of ``Reason``."""

    meaning: str
    remedy: str
    may_pass: bool = False


GUIDANCE: dict[Reason, Guidance] = {
    Reason.MISSING: Guidance(
        "The manifest names a file that is not there.",
        "Ask the deliverer to send the file, then deliver the day again.",
    ),
    Reason.UNREADABLE: Guidance(
        "The path is no regular file, or the operating system refuses to read it.",
        "Check owner, mode and disk; then run the day again.",
        may_pass=True,
    ),
    Reason.EMPTY: Guidance(
        "The file has zero bytes.",
        "Ask the uploader's client for the file again; nothing can be decoded.",
    ),
    Reason.HASH_MISMATCH: Guidance(
        "The bytes of the file do not have the sha256 that was promised.",
        "The file was changed or damaged on the way: deliver it again.",
    ),
    Reason.TOO_LARGE: Guidance(
        "The file has more bytes, or decodes to more bytes, than the limits allow.",
        "If such files are wanted, raise limits.bytes or limits.decoded_bytes.",
    ),
    Reason.TOO_LONG: Guidance(
        "The file has more seconds or more frames than the limits allow.",
        "If such files are wanted, raise limits.seconds or limits.frames.",
    ),
    Reason.TOO_MANY_PIXELS: Guidance(
        "A frame has more pixels than the limits allow.",
        "If such files are wanted, raise limits.pixels and limits.memory together.",
    ),
    Reason.TOO_MANY_STREAMS: Guidance(
        "The container holds more streams than the limits allow.",
        "Look at the file before raising limits.streams: ordinary clips have two.",
    ),
    Reason.UNSUPPORTED_CONTAINER: Guidance(
        "The file is in none of the container formats on the allow-list.",
        "Playlists, archives and pictures are never followed; deliver the media itself.",
    ),
    Reason.NO_VIDEO: Guidance(
        "The file holds no moving picture.",
        "Check whether the row belongs into music instead of videos.",
    ),
    Reason.NO_AUDIO: Guidance(
        "The file holds no sound.",
        "Check whether the row names the right file; silence of the right length is accepted.",
    ),
    Reason.UNDECODABLE: Guidance(
        "Neither decoder can turn the stream into frames or samples.",
        "Play the file elsewhere: if it plays, report its codec; if not, ask for it again.",
    ),
    Reason.TRUNCATED: Guidance(
        "More of the file is missing or broken than the limits allow.",
        "Ask for the file again, or raise limits.truncated_share to accept the rest.",
    ),
    Reason.BAD_SEGMENT: Guidance(
        "A segment of a music video lies outside of what the file holds.",
        "Correct the start and end of the segment; both are seconds from the first frame.",
    ),
    Reason.CRASHED: Guidance(
        "The decoder died while it worked on this file.",
        "Keep the file for a report to the decoder's project; a later night tries it once more.",
        may_pass=True,
    ),
    Reason.TIMED_OUT: Guidance(
        "Decoding took longer than the wall or CPU time allowed for one file.",
        "A later night tries it once more; if the machine was not overloaded, look at the file.",
        may_pass=True,
    ),
    Reason.OUT_OF_MEMORY: Guidance(
        "Decoding asked for more memory than one file may have.",
        "A later night tries it once more; raise limits.memory only for files that are wanted.",
        may_pass=True,
    ),
}


class MediaError(Exception):
    """One media file is rejected; the others go on.

    Attributes:
        reason: the code of the closed set.
        detail: one sentence with the figures: what was seen and what was allowed.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail


class EncoderError(Exception):
    """A network or its configuration cannot be used; no file is to blame."""


class WorkerError(Exception):
    """A decoding process cannot start; no file is to blame."""
