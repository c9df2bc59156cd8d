"""Describes what the pool can be asked to do with one media file."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class JobKind(StrEnum):
    """What a worker does with a file.

    The three probes return a MediaInfo, the other kinds ClipFeatures.
    """

    # Accepts any file that can be decoded.
    PROBE = "probe"
    # Rejects a file without a moving picture.
    PROBE_VIDEO = "probe_video"
    # Rejects a file without sound.
    PROBE_MUSIC = "probe_music"
    # Returns one VisualFeatures for the whole clip.
    VIDEO = "video"
    # Returns one AudioFeatures for the whole track.
    MUSIC = "music"
    # Returns one VisualFeatures and one AudioFeatures per segment.
    SEGMENTS = "segments"


@dataclass(frozen=True)
class Job:
    """One file to work on.

    Attributes:
        key: the caller's own name for the job, returned with its result.
        path: the file.
        kind: what to do with it.
        content_hash: sha256 that the bytes must have, checked before anything is decoded.
        segments: (start, end) in seconds from the first frame, for ``JobKind.SEGMENTS``.
    """

    key: str
    path: Path
    kind: JobKind
    content_hash: str | None = None
    segments: tuple[tuple[float, float], ...] = ()
