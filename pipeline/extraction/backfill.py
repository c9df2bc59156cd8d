"""Extraction over days already ingested: what it would cost, and the shards that do it."""

from __future__ import annotations

import datetime as dt
import logging

from pipeline.context import Context
from pipeline.errors import Permanent
from pipeline.extraction import shards
from pipeline.extraction.clips import KINDS, Kind, extractors
from pipeline.extraction.shards import Shard

log = logging.getLogger(__name__)

KINDS_OF: dict[str, tuple[Kind, ...]] = {
    "both": KINDS,
    "visual": ("visual",),
    "audio": ("audio",),
}


class BackfillError(Permanent):
    """The parameters of a backfill make no sense together."""

    remedy = "Nothing was run; correct the parameters and trigger it again."


def plan(context: Context, first: dt.date, last: dt.date, extractor: str, kind: str) -> list[Shard]:
    """Plan the shards of a backfill, and log clips, minutes and expected CPU hours.

    Args:
        context: its settings have the extractor among their candidates, unless it is "current".
        first: first landing day, inclusive.
        last: last landing day, inclusive.
        extractor: "current" or a name from [candidates].
        kind: "both", "visual" or "audio".

    Raises:
        BackfillError: the range is empty or no day in it was ingested.
        SettingsError: there is no such extractor.
    """
    if last < first:
        raise BackfillError("the last day is before the first", where=f"{first} to {last}")
    if kind not in KINDS_OF:
        raise BackfillError(f"kind must be one of {', '.join(KINDS_OF)}", where=kind)
    context = context.with_extractor(extractor)
    ingested = context.lake.read("landing_days")["dt"].to_list()
    days = sorted(day for day in ingested if first <= day <= last)
    if not days:
        raise BackfillError("no ingested day in the range", where=f"{first} to {last}")
    planned = shards.plan(context, days, KINDS_OF[kind])
    log.info(
        "%d day(s), extractors %s: %d clips, %.1f minutes of media, %.2f CPU hours expected",
        len(days),
        [extractors(context.settings)[name] for name in KINDS_OF[kind]],
        sum(shard.clips for shard in planned),
        sum(shard.minutes for shard in planned),
        sum(shard.cpu_seconds for shard in planned) / 3600,
    )
    for shard in planned:
        log.info("%s, %.0f CPU s expected", shard.label, shard.cpu_seconds)
    return planned
