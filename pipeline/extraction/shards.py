"""The extraction plan: clips that lack features, cut into shards of about equal cost."""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from pipeline.context import Context
from pipeline.extraction.clips import KINDS, Kind, delivered_clips, lacking_features
from pipeline.extraction.failures import worth_trying
from pipeline.lake.schemas import TABLES
from pipeline.settings.load import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shard:
    """One mapped task of an extraction: `label` is what a person reads in the UI."""

    plan: str
    shard: int
    clips: int
    minutes: float
    cpu_seconds: float

    @property
    def label(self) -> str:
        """For instance "shard 3: 120 clips, 28 min"."""
        return f"shard {self.shard}: {self.clips} clips, {self.minutes:.0f} min"


def plan(context: Context, days: Sequence[dt.date], kinds: Sequence[Kind] = KINDS) -> list[Shard]:
    """Cut the clips of some days that lack features into shards of about equal cost.

    The plan is written to table `shards` under a hash of its content: planning twice over the
    same state gives the same plan.
    """
    settings, lake = context.settings, context.lake
    clips = delivered_clips(settings, lake, days, kinds)
    clips = lacking_features(settings, lake, clips, kinds)
    clips = worth_trying(settings, lake, clips, kinds)
    if clips.is_empty():
        log.info("nothing to extract for %d day(s)", len(days))
        return []
    clips = _cut_into_shards(settings, clips)
    content = clips.select("shard", "job", "content_hash").write_csv() + repr(sorted(kinds))
    name = hashlib.sha256(content.encode()).hexdigest()[:16]
    rows = clips.with_columns(plan=pl.lit(name)).select(TABLES["shards"].columns)
    lake.replace("shards", rows, {"plan": name})
    shards = rows.group_by("shard").agg(
        pl.len().alias("clips"), pl.col("duration").sum(), pl.col("cost").sum()
    )
    return [
        Shard(name, number, count, round(seconds / 60, 1), round(cost, 1))
        for number, count, seconds, cost in shards.sort("shard").iter_rows()
    ]


def _cut_into_shards(settings: Settings, clips: pl.DataFrame) -> pl.DataFrame:
    """Number the shards: longest clips first, each to the shard with the least cost so far."""
    wanted = math.ceil(sum(clips["cost"]) / settings.extract.shard_cpu_seconds)
    count = max(1, min(wanted, settings.extract.max_shards, len(clips)))
    clips = clips.sort(["cost", "content_hash"], descending=[True, False])
    load = [0.0] * count
    numbers = []
    for cost in clips["cost"]:
        lightest = load.index(min(load))
        load[lightest] += cost
        numbers.append(lightest)
    return clips.with_columns(shard=pl.Series(numbers, dtype=pl.Int32)).sort(
        "shard", "dt", "content_hash"
    )
