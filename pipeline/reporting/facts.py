"""Collects the facts of a run's report from the tables and the run's folders."""

from __future__ import annotations

import base64
import datetime as dt
import json
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from features.errors import MediaError, Reason
from features.workers.thumbnail import thumbnail
from models import Model, metrics
from models.baselines import model_scorer
from pipeline.errors import RowReason
from pipeline.ingestion.landing_day import LandingDay
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings
from pipeline.storage.store import Store
from pipeline.training.dataset import Dataset
from pipeline.training.train import TRAINING_LOG

log = logging.getLogger(__name__)

# Limits of the report, so that it stays readable.
DAYS = 14
EXAMPLES = 5
SAMPLE_VIDEOS = 4
BEST_TRACKS = 5
_TEXT = 240


@dataclass(frozen=True)
class Day:
    """Counts of one landing day.

    Attributes:
        day: the landing day.
        rows: rows in its manifests.
        accepted: rows in the catalogue.
        rejected: reason -> rows in quarantine, after ingest and extraction.
        clips: clips that have features.
    """

    day: dt.date
    rows: int
    accepted: int
    rejected: dict[str, int]
    clips: int


@dataclass(frozen=True)
class Rejected:
    """Rows in quarantine for one reason.

    Attributes:
        reason: the reason code.
        meaning: what the reason means, in one sentence.
        remedy: what to do.
        rows: number of rows.
        examples: up to five rows, each as "day kind id: detail".
    """

    reason: str
    meaning: str
    remedy: str
    rows: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Speed:
    """Speed of extraction on one calendar day (UTC).

    Attributes:
        day: the day on which the shards ended.
        clips: clips decoded.
        clips_per_second: clips per second of the shards' wall time, added up.
        cpu_seconds: CPU seconds per clip.
    """

    day: dt.date
    clips: int
    clips_per_second: float
    cpu_seconds: float


@dataclass(frozen=True)
class Track:
    """One recommended track; `picked` says whether it is the uploader's own pick."""

    title: str
    artist: str
    genre: str
    score: float
    picked: bool


@dataclass(frozen=True)
class Sample:
    """Recommendations for one held-out video.

    Attributes:
        video_id: id of the video.
        day: its landing day.
        picture: JPEG as a data URI; empty if the media file is missing or unreadable.
        picked: "title - artist [genre]" of the track that the uploader picked.
        rank: rank of that track among all tracks, 1 is the best; tracks with the same score share
            the middle of their ranks, rounded down.
        tracks: the best tracks, best first.
    """

    video_id: str
    day: dt.date
    picture: str
    picked: str
    rank: int
    tracks: tuple[Track, ...]


def days_until(lake: Lake, last: dt.date) -> list[Day]:
    """Return the landing days of the two weeks up to `last`, oldest first."""
    window = pl.col("dt").is_between(last - dt.timedelta(days=DAYS - 1), last)
    clips = dict(lake.read("feature_days", window).select("dt", "clips").iter_rows())
    reasons: dict[dt.date, dict[str, int]] = {}
    counted = lake.read("quarantine", window).group_by("dt", "reason").len().sort("dt", "reason")
    for day, reason, count in counted.iter_rows():
        reasons.setdefault(day, {})[reason] = count
    return [
        Day(day, rows, accepted, reasons.get(day, {}), clips.get(day, 0))
        for day, rows, accepted in lake.read("landing_days", window)
        .sort("dt")
        .select("dt", "rows", "accepted")
        .iter_rows()
    ]


def rejects_by_reason(lake: Lake, last: dt.date) -> list[Rejected]:
    """Return the rejected rows of the two weeks up to `last`, the most frequent reason first."""
    window = pl.col("dt").is_between(last - dt.timedelta(days=DAYS - 1), last)
    rows = lake.read("quarantine", window).sort("dt", "id", descending=[True, False])
    found = []
    for (reason,), part in rows.group_by("reason", maintain_order=True):
        meaning, remedy = guidance(str(reason))
        examples = tuple(
            f"{row['dt']} {row['kind']} {row['id'][:_TEXT]}: {row['detail'][:_TEXT]}"
            for row in part.head(EXAMPLES).iter_rows(named=True)
        )
        found.append(Rejected(str(reason), meaning, remedy, len(part), examples))
    return sorted(found, key=lambda rejected: (-rejected.rows, rejected.reason))


def guidance(reason: str) -> tuple[str, str]:
    """Return the meaning and the remedy of a reason code."""
    if reason in set(RowReason):
        return RowReason(reason).meaning, RowReason(reason).remedy
    if reason in set(Reason):
        return Reason(reason).meaning, Reason(reason).remedy
    return "Unknown reason: another version of the code wrote it.", ""


def extraction_speed(lake: Lake) -> list[Speed]:
    """Return the speed of extraction on the last 14 days with any, oldest first."""
    rows = (
        lake.read("extractions")
        .group_by(day=pl.col("finished_at").dt.date())
        .agg(pl.col("clips", "wall_seconds", "cpu_seconds").sum())
        .filter(pl.col("clips") > 0)
        .sort("day")
        .tail(DAYS)
    )
    return [
        Speed(day, clips, clips / max(wall, 1e-9), cpu / clips)
        for day, clips, wall, cpu in rows.iter_rows()
    ]


def training_history(store: Store, run_id: str) -> dict[str, list[dict[str, Any]]]:
    """Return stage -> its epochs, with the fields of `models.EpochLog`.

    A stage that was not trained is left out.
    """
    found = {}
    for stage in ("teacher", "student"):
        if not store.exists(f"runs/{run_id}/{stage}"):
            continue
        path = store.fetch(f"runs/{run_id}/{stage}") / TRAINING_LOG
        if path.is_file():
            found[stage] = json.loads(path.read_text(encoding="utf-8"))
    return found


def load_student(store: Store, run_id: str) -> Model:
    """Load the run's student."""
    return Model.load(store.fetch(f"runs/{run_id}/student"))


def genres_picked(dataset: Dataset) -> dict[str, float]:
    """Return the share of each genre group among the held-out picks; each track counts once."""
    tracks = np.unique(dataset.test.music)
    groups = dataset.training.genre_group[tracks]
    counts = np.bincount(groups, minlength=len(dataset.groups)) / max(len(tracks), 1)
    return dict(zip(dataset.groups, counts.tolist(), strict=True))


def sample_recommendations(settings: Settings, student: Model, dataset: Dataset) -> list[Sample]:
    """Return the student's best tracks for the newest held-out videos."""
    newest = np.argsort(-dataset.test.time, kind="stable")[:SAMPLE_VIDEOS]
    if not len(newest):
        return []
    videos, picks = dataset.test.video[newest], dataset.test.music[newest]
    scores = model_scorer(student, dataset.training)(dataset.training.video[videos])
    best, ranks = metrics.top(scores, BEST_TRACKS), metrics.ranks(scores, picks).expected
    music = dataset.music.select("title", "artist", "genre").rows()
    samples = []
    for row, (video, pick) in enumerate(zip(videos.tolist(), picks.tolist(), strict=True)):
        clip = dataset.videos.row(video, named=True)
        title, artist, genre = music[pick]
        samples.append(
            Sample(
                video_id=clip["video_id"],
                day=clip["dt"],
                picture=_picture(settings, clip["dt"], clip["media_path"]),
                picked=f"{title} - {artist} [{genre}]",
                rank=int(ranks[row]) + 1,
                tracks=tuple(
                    Track(
                        title=music[track][0],
                        artist=music[track][1],
                        genre=music[track][2],
                        score=float(scores[row, track]),
                        picked=track == pick,
                    )
                    for track in best[row].tolist()
                ),
            )
        )
    return samples


def _picture(settings: Settings, day: dt.date, media_path: str) -> str:
    path = LandingDay(settings.landing.root, day).resolve(media_path)
    if path is None:
        return ""
    try:
        jpeg = thumbnail(path, settings.limits)
    except MediaError as error:
        log.warning("cannot make a thumbnail of %s: %s", path, error)
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
