"""The facts of a run's report, from the tables and the run's folders."""

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

# What fits on a page.
DAYS = 14
EXAMPLES = 5
SAMPLE_VIDEOS = 4
BEST_TRACKS = 5
_TEXT = 240


@dataclass(frozen=True)
class Day:
    """What one landing day brought.

    Attributes:
        day: the landing day.
        rows: rows of its manifests.
        accepted: of these, rows in the catalogue.
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
        reason: its code.
        meaning: one sentence.
        remedy: what to do.
        rows: how many.
        examples: "day kind id: detail" of a few.
    """

    reason: str
    meaning: str
    remedy: str
    rows: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Speed:
    """Extraction on one calendar day (UTC).

    Attributes:
        day: the day on which shards ended.
        clips: clips decoded.
        clips_per_second: of wall time of the shards, one after the other.
        cpu_seconds: processor time a clip.
    """

    day: dt.date
    clips: int
    clips_per_second: float
    cpu_seconds: float


@dataclass(frozen=True)
class Track:
    """One recommended track."""

    title: str
    artist: str
    genre: str
    score: float
    picked: bool


@dataclass(frozen=True)
class Sample:
    """Recommendations for one held-out video.

    Attributes:
        video_id: the platform's id.
        day: its landing day.
        picture: JPEG as a data URI; empty where the media file is gone or unreadable.
        picked: "title - artist [genre]" of the track its uploader picked.
        rank: rank of that track, 1 is the best.
        tracks: the best tracks.
    """

    video_id: str
    day: dt.date
    picture: str
    picked: str
    rank: int
    tracks: tuple[Track, ...]


def days_until(lake: Lake, last: dt.date) -> list[Day]:
    """The landing days of the two weeks up to `last`, oldest first."""
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
    """Rows in quarantine of the two weeks up to `last`, the most frequent reason first."""
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
    """Meaning and remedy of a reason code."""
    if reason in set(RowReason):
        return RowReason(reason).meaning, RowReason(reason).remedy
    if reason in set(Reason):
        return Reason(reason).meaning, Reason(reason).remedy
    return "A reason that this version of the code does not know.", ""


def extraction_speed(lake: Lake, last: dt.date) -> list[Speed]:
    """Extraction of the last two weeks in which anything was decoded, oldest first."""
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
    """Stage -> its epochs, as `models.EpochLog`; a stage that was not trained is left out."""
    found = {}
    for stage in ("teacher", "student"):
        if not store.exists(f"runs/{run_id}/{stage}"):
            continue
        path = store.fetch(f"runs/{run_id}/{stage}") / TRAINING_LOG
        if path.is_file():
            found[stage] = json.loads(path.read_text(encoding="utf-8"))
    return found


def student_of(store: Store, run_id: str) -> Model:
    """The run's student: how far it went from its teacher, and how loud that spoke."""
    return Model.load(store.fetch(f"runs/{run_id}/student"))


def genres_picked(dataset: Dataset) -> dict[str, float]:
    """Share of each genre group among the tracks picked in the test rows, each counted once."""
    tracks = np.unique(dataset.test.music)
    groups = dataset.training.genre_group[tracks]
    counts = np.bincount(groups, minlength=len(dataset.groups)) / max(len(tracks), 1)
    return dict(zip(dataset.groups, counts.tolist(), strict=True))


def sample_recommendations(settings: Settings, store: Store, dataset: Dataset) -> list[Sample]:
    """The student's best tracks for the newest held-out videos."""
    newest = np.argsort(-dataset.test.time, kind="stable")[:SAMPLE_VIDEOS]
    if not len(newest):
        return []
    student = Model.load(store.fetch(f"runs/{dataset.run_id}/student"))
    videos, picks = dataset.test.video[newest], dataset.test.music[newest]
    scores = model_scorer(student, dataset.training)(dataset.training.video[videos])
    best, ranks = metrics.top(scores, BEST_TRACKS), metrics.ranks(scores, picks)
    music = dataset.music.select("title", "artist", "genre").rows()
    samples = []
    for row, (video, pick) in enumerate(zip(videos.tolist(), picks.tolist(), strict=True)):
        facts = dataset.videos.row(video, named=True)
        title, artist, genre = music[pick]
        samples.append(
            Sample(
                video_id=facts["video_id"],
                day=facts["dt"],
                picture=_picture(settings, facts["dt"], facts["media_path"]),
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
        log.warning("no thumbnail of %s: %s", path, error)
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
