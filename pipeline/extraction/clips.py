"""Which clips the catalogue holds, and which of them have features."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Literal

import polars as pl

from features import JobKind, extractor_name
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings

Kind = Literal["visual", "audio"]
KINDS: tuple[Kind, ...] = ("visual", "audio")
# Which kinds of features a job makes.
MAKES: dict[JobKind, tuple[Kind, ...]] = {
    JobKind.VIDEO: ("visual",),
    JobKind.MUSIC: ("audio",),
    JobKind.SEGMENTS: ("visual", "audio"),
}

# Expected CPU seconds, from benchmarks/extraction.py: only their ratios matter, for shards of
# equal length.
CPU_PER_CLIP = 0.5
CPU_PER_GIGAPIXEL = 2.0
CPU_PER_AUDIO_SECOND = 0.02


def extractors(settings: Settings) -> dict[Kind, str]:
    """The extractor of each kind, as the settings have it."""
    return {
        "visual": extractor_name(settings.visual),
        "audio": extractor_name(settings.audio),
    }


def delivered_clips(
    settings: Settings,
    lake: Lake,
    days: Sequence[dt.date],
    kinds: Sequence[Kind],
    *,
    each_id: bool = False,
) -> pl.DataFrame:
    """The days' clips with their job and expected cost; one row a content, or one an id."""
    of_days = pl.col("dt").is_in(list(days))
    videos = lake.read("videos", of_days).select(
        pl.lit("video").alias("kind"),
        pl.col("video_id").alias("id"),
        "content_hash",
        "dt",
        "media_path",
        "duration",
        pl.when(pl.col("source") == "pgc")
        .then(pl.lit(JobKind.SEGMENTS))
        .otherwise(pl.lit(JobKind.VIDEO))
        .alias("job"),
        (pl.col("width").cast(pl.Int64) * pl.col("height") * pl.col("fps") / 1e9).alias(
            "gigapixels"
        ),
    )
    music = lake.read("music", of_days).select(
        pl.lit("music").alias("kind"),
        pl.col("music_id").alias("id"),
        "content_hash",
        "dt",
        "media_path",
        "duration",
        pl.lit(JobKind.MUSIC).alias("job"),
        pl.lit(0.0).alias("gigapixels"),
    )
    wanted = [job for job, makes in MAKES.items() if set(makes) & set(kinds)]
    clips = pl.concat([videos, music]).filter(pl.col("job").is_in(wanted))
    if not each_id:
        clips = clips.sort("dt", "id").unique(["content_hash", "job"], keep="first")
    listened = pl.col("job") != JobKind.VIDEO
    cost = (
        CPU_PER_CLIP
        + pl.col("gigapixels") * pl.col("duration") * CPU_PER_GIGAPIXEL
        + pl.when(listened).then(pl.col("duration") * CPU_PER_AUDIO_SECOND).otherwise(0.0)
    )
    return clips.with_columns(cost=cost).drop("gigapixels").sort("dt", "job", "content_hash", "id")


def lacking_features(
    settings: Settings, lake: Lake, clips: pl.DataFrame, kinds: Sequence[Kind]
) -> pl.DataFrame:
    """The clips that lack features of at least one wanted kind that their job makes."""
    hashes = clips["content_hash"].unique()
    complete = {kind: _complete(settings, lake, hashes, kind) for kind in kinds}
    lacks = pl.lit(False)
    for job, makes in MAKES.items():
        for kind in set(makes) & set(kinds):
            have = complete[kind][job is JobKind.SEGMENTS]
            lacks = lacks | ((pl.col("job") == job) & ~pl.col("content_hash").is_in(have.implode()))
    return clips.filter(lacks)


def _complete(
    settings: Settings, lake: Lake, hashes: pl.Series, kind: Kind
) -> tuple[pl.Series, pl.Series]:
    """Content that has features of a kind: as a whole, and in every one of its segments."""
    table = f"{kind}_features"
    rows = lake.collect(
        lake.scan(table)
        .filter(
            pl.col("extractor") == extractors(settings)[kind],
            pl.col("content_hash").is_in(hashes.implode()),
        )
        .select("content_hash", "segment"),
        table,
    )
    wanted = (
        lake.read("segments", pl.col("content_hash").is_in(hashes.implode()))
        .select("content_hash", "segment")
        .unique()
    )
    missing = wanted.join(rows, on=["content_hash", "segment"], how="anti")
    whole = rows.filter(pl.col("segment") == -1)["content_hash"]
    in_segments = wanted.join(missing, on="content_hash", how="anti")["content_hash"].unique()
    return whole, in_segments


def first_days(lake: Lake, hashes: pl.Series) -> dict[str, dt.date]:
    """The earliest day of the catalogue that delivered each content.

    Its features are filed under that day, whichever day's run extracts it: two days that share a
    file and are extracted side by side write the same rows.
    """
    wanted = pl.col("content_hash").is_in(hashes.unique().implode())
    rows = [
        lake.collect(lake.scan(table).filter(wanted).select("content_hash", "dt"), table)
        for table in ("videos", "music")
    ]
    return dict(pl.concat(rows).group_by("content_hash").agg(pl.col("dt").min()).iter_rows())
