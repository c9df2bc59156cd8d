"""Extraction over days already ingested: what it would cost, and the shards that do it."""

from __future__ import annotations

import datetime as dt
import logging

from pipeline.clips import KINDS, Kind, extractors
from pipeline.errors import Permanent
from pipeline.lake import Lake
from pipeline.settings import Settings
from pipeline.shards import Shard, plan

log = logging.getLogger(__name__)

KINDS_OF: dict[str, tuple[Kind, ...]] = {
    "both": KINDS,
    "visual": ("visual",),
    "audio": ("audio",),
}


class BackfillError(Permanent):
    """The parameters of a backfill make no sense together."""

    remedy = "Nothing was run; correct the parameters and trigger it again."


def plan_backfill(
    settings: Settings, lake: Lake, first: dt.date, last: dt.date, extractor: str, kind: str
) -> list[Shard]:
    """Plan the shards of a backfill, and log clips, minutes and expected CPU hours.

    Args:
        settings: with the extractor among its candidates, unless it is "current".
        lake: holds the days.
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
    settings = settings.with_extractor(extractor)
    ingested = lake.read("landing_days")["dt"].to_list()
    days = sorted(day for day in ingested if first <= day <= last)
    if not days:
        raise BackfillError("no ingested day in the range", where=f"{first} to {last}")
    shards = plan(settings, lake, days, KINDS_OF[kind])
    log.info(
        "%d day(s), extractors %s: %d clips, %.1f minutes of media, %.2f CPU hours expected",
        len(days),
        [extractors(settings)[name] for name in KINDS_OF[kind]],
        sum(shard.clips for shard in shards),
        sum(shard.minutes for shard in shards),
        sum(shard.cpu_seconds for shard in shards) / 3600,
    )
    for shard in shards:
        log.info("%s, %.0f CPU s expected", shard.label, shard.cpu_seconds)
    return shards
