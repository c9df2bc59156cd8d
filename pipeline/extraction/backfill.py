"""Plans the extraction of landing days that are already ingested."""

from __future__ import annotations

import datetime as dt
import logging

from pipeline.context import Context
from pipeline.errors import Permanent
from pipeline.extraction import shards
from pipeline.extraction.clips import MODALITIES, Modality, extractors
from pipeline.extraction.shards import Shard

log = logging.getLogger(__name__)

# Values of the parameter `kind`.
MODALITIES_OF: dict[str, tuple[Modality, ...]] = {
    "both": MODALITIES,
    "visual": (Modality.VISUAL,),
    "audio": (Modality.AUDIO,),
}


class BackfillError(Permanent):
    """The parameters of a backfill are invalid."""

    remedy = "Nothing was run. Correct the parameters and trigger the backfill again."


def plan(context: Context, first: dt.date, last: dt.date, extractor: str, kind: str) -> list[Shard]:
    """Plan the shards of a backfill, and log clips, minutes and expected CPU hours.

    Args:
        context: settings and lake.
        first: first landing day, inclusive.
        last: last landing day, inclusive.
        extractor: "current" or a name from [candidates].
        kind: "both", "visual" or "audio".

    Raises:
        BackfillError: the range is empty, no day in it was ingested, or the kind is unknown.
        SettingsError: there is no such extractor.
    """
    if last < first:
        raise BackfillError("the last day is before the first", where=f"{first} to {last}")
    if kind not in MODALITIES_OF:
        raise BackfillError(f"kind must be one of {', '.join(MODALITIES_OF)}", where=kind)
    modalities = MODALITIES_OF[kind]
    context = context.with_extractor(extractor)
    ingested = context.lake.read("landing_days")["dt"].to_list()
    days = sorted(day for day in ingested if first <= day <= last)
    if not days:
        raise BackfillError("no day in the range was ingested", where=f"{first} to {last}")
    planned = shards.plan(context, days, modalities)
    log.info(
        "%d day(s), extractors %s: %d clips, %.1f minutes of media, %.2f CPU hours expected",
        len(days),
        [extractors(context.settings)[modality] for modality in modalities],
        sum(shard.clips for shard in planned),
        sum(shard.minutes for shard in planned),
        sum(shard.cpu_seconds for shard in planned) / 3600,
    )
    for shard in planned:
        log.info("%s, %.0f CPU s expected", shard.label, shard.cpu_seconds)
    return planned
