"""Defines the closed sets of codes that several tables share."""

from __future__ import annotations

from enum import StrEnum


class Source(StrEnum):
    """Origin of a video."""

    UGC = "ugc"
    """User-generated content: an uploader's video with music that the uploader picked."""
    PGC = "pgc"
    """Professionally generated content: a music video."""


class IdKind(StrEnum):
    """What an id names. A deletion can be requested for each kind."""

    VIDEO = "video"
    MUSIC = "music"
    UPLOADER = "uploader"
