"""What could not be extracted, by file and extractor, and which of it is worth another try.

A file that breaks a decoder today does so tomorrow, until the extractor or the limits change. What
the machine may have caused (a worker killed, late or out of memory) is tried on a later night, and
what lies in the folder (a file gone, changed or unreadable) when it is delivered again.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
from collections.abc import Sequence

import polars as pl

from features import Job, MediaError
from features.errors import Reason
from pipeline.extraction.clips import MAKES, Kind, extractors, lacking_features
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings

log = logging.getLogger(__name__)

CLIP = ["content_hash", "job"]
# The bytes were not tried at all: the file is not there, or is not the one that was ingested.
_OF_THE_FOLDER = (Reason.MISSING, Reason.UNREADABLE, Reason.EMPTY, Reason.HASH_MISMATCH)
_MAY_PASS = tuple(reason for reason in Reason if reason.is_transient and reason not in _OF_THE_FOLDER)
# A retry of the task, or a run by hand, meets the same night and the same machine.
_ANOTHER_NIGHT = dt.timedelta(hours=6)


def failures(settings: Settings, lake: Lake, clips: pl.DataFrame) -> pl.DataFrame:
    """The last failure of each clip by the extractors in force: reason, detail, attempts."""
    rows = _of(settings, lake, clips).sort("failed_at", "attempts")
    return rows.unique(CLIP, keep="last", maintain_order=True).select(
        *CLIP, "reason", "detail", "attempts"
    )


def worth_trying(
    settings: Settings, lake: Lake, clips: pl.DataFrame, kinds: Sequence[Kind]
) -> pl.DataFrame:
    """The clips without those that failed before and would fail again."""
    failed = _of(settings, lake, clips)
    if failed.is_empty():
        return clips
    days = lake.read("landing_days").select("dt", ingested="finished_at")
    read = clips.join(days, on="dt", how="left").group_by(CLIP).agg(pl.col("ingested").max())
    closed = failed.join(read, on=CLIP, how="left").filter(~_is_open(settings))
    suspects = clips.join(closed, on=CLIP, how="semi")
    names = extractors(settings)
    still_open = [
        lacking_features(settings, lake, suspects, [kind])
        .join(closed.filter(pl.col("extractor") == names[kind]), on=CLIP, how="anti")
        .select(CLIP)
        for kind in kinds
    ]
    hopeless = suspects.join(pl.concat(still_open), on=CLIP, how="anti")
    if len(hopeless):
        log.info("%d clips failed before and are not tried now", len(hopeless))
    return clips.join(hopeless, on=CLIP, how="anti")


def _is_open(settings: Settings) -> pl.Expr:
    """Of a failure with the time its day was `ingested`: whether it may be tried again."""
    tries_left = pl.col("attempts") < settings.extract.max_attempts
    earlier_night = pl.col("failed_at") <= dt.datetime.now(dt.UTC) - _ANOTHER_NIGHT
    delivered_since = (pl.col("ingested") > pl.col("failed_at")).fill_null(False)
    return (
        (pl.col("limits") != _digest(settings))
        | (pl.col("reason").is_in(list(map(str, _MAY_PASS))) & tries_left & earlier_night)
        | (pl.col("reason").is_in(list(map(str, _OF_THE_FOLDER))) & (tries_left | delivered_since))
    )


def record(
    settings: Settings,
    lake: Lake,
    failed: Sequence[tuple[Job, MediaError]],
    done: Sequence[Job],
    kinds: Sequence[Kind],
) -> None:
    """Write which jobs failed, and forget the failures of those that are done."""
    jobs = [job for job, _ in failed] + list(done)
    clips = pl.DataFrame(
        [(job.content_hash, job.kind) for job in jobs],
        schema=dict.fromkeys(CLIP, pl.String),
        orient="row",
    )
    names = extractors(settings)
    before = _of(settings, lake, clips).filter(
        pl.col("extractor").is_in([names[kind] for kind in kinds])
    )
    lake.delete_matching(
        "failures",
        before.join(clips.tail(len(done)), on=CLIP, how="semi").select(*CLIP, "extractor"),
    )
    same = before.filter(pl.col("limits") == _digest(settings))
    tries = {tuple(row): count for *row, count in same[*CLIP, "extractor", "attempts"].iter_rows()}
    now = dt.datetime.now(dt.UTC)
    rows = {
        (job.content_hash, job.kind, names[kind]): {
            "content_hash": job.content_hash,
            "job": job.kind,
            "extractor": names[kind],
            "reason": str(error.reason),
            # No file's name: it may be an id, and several ids may have this file.
            "detail": error.detail.replace(job.path.name, "the file"),
            "attempts": tries.get((job.content_hash, job.kind, names[kind]), 0) + 1,
            "limits": _digest(settings),
            "failed_at": now,
        }
        for job, error in failed
        for kind in MAKES[job.kind]
        if kind in kinds
    }
    lake.upsert("failures", TABLES["failures"].frame(list(rows.values())))


def _of(settings: Settings, lake: Lake, clips: pl.DataFrame) -> pl.DataFrame:
    hashes = clips["content_hash"].unique()
    rows = lake.read(
        "failures",
        pl.col("extractor").is_in(list(extractors(settings).values())),
        pl.col("content_hash").is_in(hashes.implode()),
    )
    return rows.join(clips, on=CLIP, how="semi")


def _digest(settings: Settings) -> str:
    return hashlib.sha256(settings.limits.model_dump_json().encode()).hexdigest()[:16]
