"""Defines and stores the ground truth of a rendered world, outside of the landing folder."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from models.arrays import Float64Array

_TRUTH, _AFFINITY = "truth.json", "affinity.npy"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Track(_Record):
    """A track of the world."""

    music_id: str
    group: str = Field(description="genre group")
    day: dt.date = Field(description="landing day that delivers it")
    late: bool = Field(description="delivered after the first landing day")


class Clip(_Record):
    """A UGC video of the world."""

    video_id: str
    uploader_id: str
    day: dt.date = Field(description="landing day that delivers it")
    group: str = Field(description="genre group of its content")
    picked: str = Field(description="music_id that its uploader picked")
    best: tuple[str, ...] = Field(
        description="the ten tracks with the highest affinity, best first"
    )


class Segment(_Record):
    """A part of a music video (PGC) whose frames and sound match."""

    video_id: str
    start: float = Field(description="seconds from the first frame")
    end: float
    group: str = Field(description="genre group of its sound")


class OddRow(_Record):
    """A manifest row that is invalid or unusual."""

    day: dt.date
    kind: str = Field(description="video or music")
    id: str
    reason: str = Field(
        description="expected reason in the quarantine; empty if the row is accepted"
    )
    why: str = Field(description="what is invalid or unusual")


class Truth(_Record):
    """The ground truth of a rendered world, except the affinity matrix."""

    seed: int
    days: tuple[dt.date, ...]
    groups: tuple[str, ...] = Field(description="genre groups, the most common first")
    preferences: dict[str, tuple[float, ...]] = Field(
        description="uploader_id -> true preference for each of `groups`, sums to one"
    )
    music: tuple[Track, ...] = Field(description="in the order of the columns of the affinity")
    videos: tuple[Clip, ...] = Field(description="in the order of the rows of the affinity")
    segments: tuple[Segment, ...]
    odd: tuple[OddRow, ...] = Field(description="rows delivered with their day")
    late: tuple[OddRow, ...] = Field(description="rows added to a day after its delivery")

    @property
    def rejects(self) -> tuple[OddRow, ...]:
        """The rows that must be quarantined."""
        return tuple(row for row in self.odd if row.reason)


def save_truth(folder: Path, truth: Truth, affinity: Float64Array) -> None:
    """Write the ground truth of a world.

    Args:
        folder: folder to write to; it is created if missing.
        truth: the ground truth except the affinity.
        affinity: float64 [N, M] in nats, true match of each of `truth.videos` with each track.
    """
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / _AFFINITY, affinity, allow_pickle=False)
    (folder / _TRUTH).write_text(truth.model_dump_json(indent=1), encoding="utf-8")


def load_truth(folder: Path) -> tuple[Truth, Float64Array]:
    """Read the ground truth that `save_truth` wrote.

    Returns:
        The truth, and the affinity float64 [N, M] in nats.

    Raises:
        FileNotFoundError: the folder has no ground truth.
    """
    truth = Truth.model_validate_json((folder / _TRUTH).read_text(encoding="utf-8"))
    affinity: Float64Array = np.load(folder / _AFFINITY, allow_pickle=False)
    return truth, affinity
