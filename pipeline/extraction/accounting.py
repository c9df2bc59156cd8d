"""Checks that every row of a landing day has features or a reason in quarantine."""

from __future__ import annotations

import datetime as dt
import logging
from collections import Counter
from dataclasses import dataclass

import polars as pl

from pipeline.context import Context
from pipeline.errors import LostRowsError, NotIngestedError, TooManyRejectsError
from pipeline.extraction.clips import (
    MODALITIES,
    Modality,
    delivered_rows,
    extractors,
    without_features,
)
from pipeline.extraction.failures import CLIP_KEY, last_failures
from pipeline.ingestion.refused_days import clear_refused_day, record_refused_day
from pipeline.ingestion.row_rules import refuse_too_many_rejects
from pipeline.lake.schemas import TABLES

log = logging.getLogger(__name__)

_ROW_KEY = ["kind", "id", "content_hash", "job"]


@dataclass(frozen=True)
class FeatureSummary:
    """Result of a checked day.

    Attributes:
        day: the landing day, ISO.
        clips: rows of the catalogue with features.
        rejected: reason -> rows of the catalogue without features.
    """

    day: str
    clips: int
    rejected: dict[str, int]


def check(context: Context, day: dt.date) -> FeatureSummary:
    """Account for every row of a landing day, and mark the day's features as complete.

    Rows without features are quarantined with the reason of their last failure.

    Raises:
        NotIngestedError: the day was not ingested.
        LostRowsError: a row has neither features nor a failure.
        TooManyRejectsError: the share of rejected rows is above [landing] reject_share.
    """
    settings, lake = context.settings, context.lake
    rows = delivered_rows(lake, [day], MODALITIES)
    ingested = lake.read("landing_days", pl.col("dt") == day)
    if rows.is_empty() and ingested.is_empty():
        raise NotIngestedError("the day was not ingested", where=f"day {day}")
    lacking = without_features(context, rows, MODALITIES)
    failures = last_failures(context, lacking)
    lost = lacking.join(failures, on=CLIP_KEY, how="anti")
    if len(lost):
        # An erasure or a new delivery may have removed rows, and their features, since the first
        # read.
        still_there = delivered_rows(lake, [day], MODALITIES).select(_ROW_KEY)
        rows, lacking, lost = (
            frame.join(still_there, on=_ROW_KEY, how="semi") for frame in (rows, lacking, lost)
        )
    if len(lost):
        raise LostRowsError(
            f"{len(lost)} rows have neither features nor a failure, the first is {lost['id'][0]!r}",
            where=f"day {day}",
        )
    rejected = lacking.join(failures, on=CLIP_KEY, how="inner")
    # Replaces the quarantine of earlier checks: clips that were extracted since leave it.
    quarantine = rejected.with_columns(
        dt=pl.lit(day),
        step=pl.lit("extract"),
        detail=pl.concat_str("media_path", pl.lit(": "), "detail"),
    ).select(TABLES["quarantine"].columns)
    lake.replace("quarantine", quarantine, {"dt": day, "step": "extract"})
    try:
        refuse_too_many_rejects(
            quarantine, len(rows), settings.landing.reject_share, f"features of day {day}"
        )
    except TooManyRejectsError as error:
        for fingerprint in ingested["fingerprint"]:
            record_refused_day(lake, day, fingerprint, "check", error)
        raise
    names = extractors(settings)
    complete = {
        "dt": day,
        "visual_extractor": names[Modality.VISUAL],
        "audio_extractor": names[Modality.AUDIO],
        "clips": len(rows) - len(lacking),
        "rejected": len(lacking),
        "finished_at": dt.datetime.now(dt.UTC),
    }
    lake.replace("feature_days", TABLES["feature_days"].frame([complete]), {"dt": day})
    # If ingest has refused another delivery since, that refusal stays.
    clear_refused_day(lake, day, ingested["fingerprint"].to_list())
    summary = FeatureSummary(
        day.isoformat(),
        clips=len(rows) - len(lacking),
        rejected=dict(Counter(quarantine["reason"].to_list())),
    )
    log.info("%s", summary)
    return summary
