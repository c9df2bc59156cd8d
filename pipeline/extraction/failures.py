"""Stores failed extractions per file and extractor, and decides which clips to try again.

A failure is final if it depends only on the file, the extractor and the limits: it is tried again
after the extractor or the limits change. Two groups of failures are tried up to
[extract] max_attempts times:

- The machine may be the cause (worker killed, timeout, out of memory): on a later night.
- The landing folder is the cause (file missing, changed or unreadable): in the next run; after
  max_attempts once more whenever the day is delivered again.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
from collections.abc import Collection, Sequence

import polars as pl

from features import Job, MediaError
from features.errors import Reason
from pipeline.context import Context
from pipeline.extraction.clips import MODALITIES_OF_JOB, Modality, extractors, without_features
from pipeline.lake.schemas import TABLES
from pipeline.settings.load import Settings

log = logging.getLogger(__name__)

CLIP_KEY = ["content_hash", "job"]
# The file's bytes were not decoded: it is missing, or is not the file that was ingested.
_FOLDER_REASONS = (Reason.MISSING, Reason.UNREADABLE, Reason.EMPTY, Reason.HASH_MISMATCH)
_MACHINE_REASONS = tuple(
    reason for reason in Reason if reason.is_transient and reason not in _FOLDER_REASONS
)
# A retry within hours probably meets the same state of the machine.
_RETRY_AFTER = dt.timedelta(hours=6)


def last_failures(context: Context, clips: pl.DataFrame) -> pl.DataFrame:
    """Read the last failure of each clip by a current extractor.

    Returns:
        Columns content_hash, job, reason, detail, attempts; one row per failed clip.
    """
    rows = _failures(context, clips).sort("failed_at", "attempts")
    return rows.unique(CLIP_KEY, keep="last", maintain_order=True).select(
        *CLIP_KEY, "reason", "detail", "attempts"
    )


def drop_final_failures(
    context: Context, clips: pl.DataFrame, modalities: Sequence[Modality]
) -> pl.DataFrame:
    """Drop the clips that failed before and would fail again.

    Args:
        context: settings and lake.
        clips: rows with content_hash, job and dt.
        modalities: the features to extract. A clip stays if any of them may succeed.
    """
    failed = _failures(context, clips)
    if failed.is_empty():
        return clips
    days = context.lake.read("landing_days").select("dt", ingested="finished_at")
    ingested = clips.join(days, on="dt", how="left").group_by(CLIP_KEY)
    failed = failed.join(ingested.agg(pl.col("ingested").max()), on=CLIP_KEY, how="left")
    final = failed.filter(~_may_be_retried(context.settings))
    suspects = clips.join(final, on=CLIP_KEY, how="semi")
    names = extractors(context.settings)
    retried = [
        without_features(context, suspects, [modality])
        .join(final.filter(pl.col("extractor") == names[modality]), on=CLIP_KEY, how="anti")
        .select(CLIP_KEY)
        for modality in modalities
    ]
    dropped = suspects.join(pl.concat(retried), on=CLIP_KEY, how="anti")
    if len(dropped):
        log.info("%d clips skipped: they failed before and would fail again", len(dropped))
    return clips.join(dropped, on=CLIP_KEY, how="anti")


def _may_be_retried(settings: Settings) -> pl.Expr:
    """Return the rule of the module's docstring, over table `failures` with column `ingested`.

    `ingested` is the time at which the clip's landing day was last ingested.
    """
    attempts_left = pl.col("attempts") < settings.extract.max_attempts
    earlier_night = pl.col("failed_at") <= dt.datetime.now(dt.UTC) - _RETRY_AFTER
    delivered_since = (pl.col("ingested") > pl.col("failed_at")).fill_null(False)
    by_machine = pl.col("reason").is_in(list(map(str, _MACHINE_REASONS)))
    by_folder = pl.col("reason").is_in(list(map(str, _FOLDER_REASONS)))
    return (
        (pl.col("limits") != _digest(settings))
        | (by_machine & attempts_left & earlier_night)
        | (by_folder & (attempts_left | delivered_since))
    )


def record_outcomes(
    context: Context,
    failed: Sequence[tuple[Job, MediaError]],
    done: Sequence[Job],
    modalities: Collection[Modality],
) -> None:
    """Write the failures of failed jobs to table `failures`, and delete those of done jobs.

    Args:
        context: settings and lake.
        failed: jobs with their errors.
        done: jobs that succeeded.
        modalities: the features that the jobs were run for.
    """
    jobs = [job for job, _ in failed] + list(done)
    clips = pl.DataFrame(
        [(job.content_hash, job.kind) for job in jobs],
        schema=dict.fromkeys(CLIP_KEY, pl.String),
        orient="row",
    )
    names = extractors(context.settings)
    before = _failures(context, clips).filter(
        pl.col("extractor").is_in([names[modality] for modality in modalities])
    )
    context.lake.delete_matching(
        "failures",
        before.join(clips.tail(len(done)), on=CLIP_KEY, how="semi").select(*CLIP_KEY, "extractor"),
    )
    limits = _digest(context.settings)
    same = before.filter(pl.col("limits") == limits)
    attempts = {
        tuple(row): count for *row, count in same[*CLIP_KEY, "extractor", "attempts"].iter_rows()
    }
    now = dt.datetime.now(dt.UTC)
    rows = {
        (job.content_hash, job.kind, names[modality]): {
            "content_hash": job.content_hash,
            "job": job.kind,
            "extractor": names[modality],
            "reason": str(error.reason),
            # Without the file's name: it may contain an id, and several ids may share this file.
            "detail": error.detail.replace(job.path.name, "the file"),
            "attempts": attempts.get((job.content_hash, job.kind, names[modality]), 0) + 1,
            "limits": limits,
            "failed_at": now,
        }
        for job, error in failed
        for modality in MODALITIES_OF_JOB[job.kind]
        if modality in modalities
    }
    context.lake.upsert("failures", TABLES["failures"].frame(list(rows.values())))


def _failures(context: Context, clips: pl.DataFrame) -> pl.DataFrame:
    """Read the failures of some clips by the current extractors."""
    hashes = clips["content_hash"].unique()
    rows = context.lake.read(
        "failures",
        pl.col("extractor").is_in(list(extractors(context.settings).values())),
        pl.col("content_hash").is_in(hashes.implode()),
    )
    return rows.join(clips, on=CLIP_KEY, how="semi")


def _digest(settings: Settings) -> str:
    return hashlib.sha256(settings.limits.model_dump_json().encode()).hexdigest()[:16]
