"""The account of a day: every row of its catalogue has features, or a reason why not."""

from __future__ import annotations

import datetime as dt
import logging
from collections import Counter
from dataclasses import dataclass

import polars as pl

from pipeline.context import Context
from pipeline.errors import LostRowsError, NotIngestedError, TooManyRejectsError
from pipeline.extraction.clips import KINDS, delivered_clips, extractors, lacking_features
from pipeline.extraction.failures import CLIP, failures
from pipeline.ingestion.refused_days import clear_refused_day, record_refused_day
from pipeline.ingestion.row_rules import refuse_too_many_rejects
from pipeline.lake.schemas import TABLES

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeatureSummary:
    """A checked day: every row of its catalogue has features, or a place in quarantine."""

    day: str
    clips: int
    rejected: dict[str, int]


def check(context: Context, day: dt.date) -> FeatureSummary:
    """Account for every row of a day's catalogue: features, or a place in quarantine.

    Raises:
        NotIngestedError: the day was not ingested.
        LostRowsError: a row has neither.
        TooManyRejectsError: more rows than allowed could not be extracted.
    """
    settings, lake = context.settings, context.lake
    clips = delivered_clips(settings, lake, [day], KINDS, each_id=True)
    ingested = lake.read("landing_days", pl.col("dt") == day)
    if clips.is_empty() and ingested.is_empty():
        raise NotIngestedError("the day was not ingested", where=f"day {day}")
    lacking = lacking_features(settings, lake, clips, KINDS)
    reasons = failures(settings, lake, lacking)
    accounted = lacking.join(reasons, on=CLIP, how="inner")
    if len(accounted) < len(lacking):
        lost = lacking.join(reasons, on=CLIP, how="anti")
        raise LostRowsError(
            f"{len(lost)} clips with neither features nor a reason, first {lost['id'][0]!r}",
            where=f"day {day}",
        )
    # Only what still lacks features stays in quarantine: a second attempt may have succeeded.
    rows = accounted.with_columns(
        dt=pl.lit(day),
        step=pl.lit("extract"),
        detail=pl.concat_str("media_path", pl.lit(": "), "detail"),
    )
    quarantine = rows.select(TABLES["quarantine"].columns)
    lake.replace("quarantine", quarantine, {"dt": day, "step": "extract"})
    try:
        refuse_too_many_rejects(
            quarantine, len(clips), settings.landing.reject_share, f"features of day {day}"
        )
    except TooManyRejectsError as error:
        for fingerprint in ingested["fingerprint"]:
            record_refused_day(lake, day, fingerprint, "check", error)
        raise
    names = extractors(settings)
    done = {
        "dt": day,
        "visual_extractor": names["visual"],
        "audio_extractor": names["audio"],
        "clips": len(clips) - len(lacking),
        "rejected": len(lacking),
        "finished_at": dt.datetime.now(dt.UTC),
    }
    lake.replace("feature_days", TABLES["feature_days"].frame([done]), {"dt": day})
    clear_refused_day(lake, day)
    summary = FeatureSummary(
        day.isoformat(),
        clips=len(clips) - len(lacking),
        rejected=dict(Counter(quarantine["reason"].to_list())),
    )
    log.info("%s", summary)
    return summary
