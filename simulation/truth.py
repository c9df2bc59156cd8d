"""What is true of a rendered world, kept beside it and never inside the landing folder."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

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
    group: str = Field(description="genre group that its content lies around")
    picked: str = Field(description="music_id that its uploader picked")
    best: tuple[str, ...] = Field(description="the ten truly best tracks, the best first")


class Segment(_Record):
    """A stretch of a music video (PGC) with pictures and sound that belong together."""

    video_id: str
    start: float = Field(description="seconds from the first frame")
    end: float
    group: str = Field(description="genre group of its sound")


class OddRow(_Record):
    """A manifest row that is not like the others."""

    day: dt.date
    kind: str = Field(description="video or music")
    id: str
    reason: str = Field(description="expected code in the quarantine; empty: it is accepted")
    why: str = Field(description="what is odd about it")


class Truth(_Record):
    """Everything that is known about a rendered world."""

    seed: int
    days: tuple[dt.date, ...]
    groups: tuple[str, ...] = Field(description="genre groups, from majority to minority")
    preferences: dict[str, tuple[float, ...]] = Field(
        description="uploader_id -> true preference for each of `groups`, sums to one"
    )
    music: tuple[Track, ...] = Field(description="in the order of the affinity's columns")
    videos: tuple[Clip, ...] = Field(description="in the order of the affinity's rows")
    segments: tuple[Segment, ...]
    odd: tuple[OddRow, ...] = Field(description="rows delivered with their day")
    late: tuple[OddRow, ...] = Field(description="rows delivered after the fact")

    @property
    def rejects(self) -> tuple[OddRow, ...]:
        """The rows that must end in quarantine."""
        return tuple(row for row in self.odd if row.reason)


def save_truth(folder: Path, truth: Truth, affinity: NDArray[np.float64]) -> None:
    """Writes the truth of a world.

    Args:
        folder: folder to write to; made where it is missing.
        truth: everything but the affinity.
        affinity: float64[N, M], true match of each of `truth.videos` with each track.
    """
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / _AFFINITY, affinity, allow_pickle=False)
    (folder / _TRUTH).write_text(truth.model_dump_json(indent=1), encoding="utf-8")


def load_truth(folder: Path) -> tuple[Truth, NDArray[np.float64]]:
    """Reads what `save_truth` wrote.

    Returns:
        The truth, and the affinity float64[N, M] in nats.

    Raises:
        FileNotFoundError: no truth lies there.
    """
    truth = Truth.model_validate_json((folder / _TRUTH).read_text(encoding="utf-8"))
    affinity: NDArray[np.float64] = np.load(folder / _AFFINITY, allow_pickle=False)
    return truth, affinity
