"""Plans an extraction: cuts the clips without features into shards of about equal cost."""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from features.errors import EncoderError
from features.networks.export import check_network
from pipeline.context import Context
from pipeline.extraction.clips import (
    MODALITIES,
    Modality,
    delivered_clips,
    without_features,
)
from pipeline.extraction.failures import drop_final_failures
from pipeline.lake.schemas import TABLES
from pipeline.settings.load import Settings, SettingsError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shard:
    """One mapped task of an extraction.

    Attributes:
        plan: name of the plan in table `shards`.
        shard: number of the shard in the plan, from 0.
        clips: number of clips.
        minutes: total duration of the clips.
        cpu_seconds: expected CPU time.
    """

    plan: str
    shard: int
    clips: int
    minutes: float
    cpu_seconds: float

    @property
    def label(self) -> str:
        """Name of the mapped task in the UI, for example "shard 3: 120 clips, 28 min"."""
        return f"shard {self.shard}: {self.clips} clips, {self.minutes:.0f} min"


def plan(
    context: Context, days: Sequence[dt.date], modalities: Sequence[Modality] = MODALITIES
) -> list[Shard]:
    """Cut the clips that lack features into shards of about equal cost.

    The plan is written to table `shards` under a hash of its content: planning again without new
    clips or features gives the same plan.

    Args:
        context: settings and lake.
        days: landing days whose clips are planned.
        modalities: the features to extract.

    Raises:
        SettingsError: the file of a configured network is missing or has another sha256.
    """
    clips = delivered_clips(context.lake, days, modalities)
    clips = without_features(context, clips, modalities)
    clips = drop_final_failures(context, clips, modalities)
    if clips.is_empty():
        log.info("no clips to extract for %d day(s)", len(days))
        return []
    _check_encoders(context.settings, modalities)
    clips = _cut_into_shards(context.settings, clips)
    # str: the name must not depend on the type of the modalities.
    extracted = repr(sorted(map(str, modalities)))
    content = clips.select("shard", "job", "content_hash").write_csv() + extracted
    name = hashlib.sha256(content.encode()).hexdigest()[:16]
    rows = clips.with_columns(plan=pl.lit(name)).select(TABLES["shards"].columns)
    context.lake.replace("shards", rows, {"plan": name})
    shards = rows.group_by("shard").agg(
        pl.len().alias("clips"), pl.col("duration").sum(), pl.col("cost").sum()
    )
    return [
        Shard(name, number, count, round(seconds / 60, 1), round(cost, 1))
        for number, count, seconds, cost in shards.sort("shard").iter_rows()
    ]


def _check_encoders(settings: Settings, modalities: Sequence[Modality]) -> None:
    """Check the configured networks now, so that a dry run finds what would fail every shard."""
    encoders = {Modality.VISUAL: settings.visual.encoder, Modality.AUDIO: settings.audio.encoder}
    for modality in modalities:
        encoder = encoders[modality]
        if encoder is None:
            continue
        try:
            check_network(encoder)
        except EncoderError as error:
            what = str(error).partition("\n")[0].removesuffix(".")
            raise SettingsError(what, where=f"{modality}.encoder") from error


def _cut_into_shards(settings: Settings, clips: pl.DataFrame) -> pl.DataFrame:
    """Add column shard. Clips are taken by falling cost; each goes to the cheapest shard so far."""
    wanted = math.ceil(sum(clips["cost"]) / settings.extract.shard_cpu_seconds)
    count = max(1, min(wanted, settings.extract.max_shards, len(clips)))
    clips = clips.sort(["cost", "content_hash"], descending=[True, False])
    costs = [0.0] * count
    numbers = []
    for cost in clips["cost"]:
        cheapest = costs.index(min(costs))
        costs[cheapest] += cost
        numbers.append(cheapest)
    return clips.with_columns(shard=pl.Series(numbers, dtype=pl.Int32)).sort(
        "shard", "dt", "content_hash"
    )
