"""Reads the clips of the catalogue, and finds those without features."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from enum import StrEnum

import polars as pl

from features import JobKind, extractor_name
from pipeline.context import Context
from pipeline.lake.codes import Source
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings


class Modality(StrEnum):
    """A kind of features, with an extractor and tables of its own."""

    VISUAL = "visual"
    AUDIO = "audio"


MODALITIES: tuple[Modality, ...] = tuple(Modality)
# Modalities of the features that each extraction job makes.
MODALITIES_OF_JOB: dict[JobKind, tuple[Modality, ...]] = {
    JobKind.VIDEO: (Modality.VISUAL,),
    JobKind.MUSIC: (Modality.AUDIO,),
    JobKind.SEGMENTS: (Modality.VISUAL, Modality.AUDIO),
}

# Expected CPU seconds, measured by benchmarks/extraction.py. Shards get about equal sums of them,
# so only their ratios matter.
CPU_PER_CLIP = 0.5
CPU_PER_GIGAPIXEL = 2.0
CPU_PER_AUDIO_SECOND = 0.02


def extractors(settings: Settings) -> dict[Modality, str]:
    """Return the current extractor (name@version) of each modality."""
    return {
        Modality.VISUAL: extractor_name(settings.visual),
        Modality.AUDIO: extractor_name(settings.audio),
    }


def delivered_rows(
    lake: Lake, days: Sequence[dt.date], modalities: Collection[Modality]
) -> pl.DataFrame:
    """Read the rows of the catalogue that some landing days delivered, one per id.

    Args:
        lake: the tables.
        days: the landing days.
        modalities: only rows whose job makes one of these.

    Returns:
        Columns kind (video or music), id, uploader_id (null for tracks and professional music
        videos), content_hash, dt, media_path, duration (seconds), job (a JobKind) and cost
        (expected CPU seconds), sorted by dt, job, content_hash, id.
    """
    of_days = pl.col("dt").is_in(list(days))
    videos = lake.read("videos", of_days).select(
        pl.lit("video").alias("kind"),
        pl.col("video_id").alias("id"),
        "uploader_id",
        "content_hash",
        "dt",
        "media_path",
        "duration",
        pl.when(pl.col("source") == Source.PGC)
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
        pl.lit(None, pl.String).alias("uploader_id"),
        "content_hash",
        "dt",
        "media_path",
        "duration",
        pl.lit(JobKind.MUSIC).alias("job"),
        pl.lit(0.0).alias("gigapixels"),
    )
    jobs = [job for job, makes in MODALITIES_OF_JOB.items() if set(makes) & set(modalities)]
    decodes_sound = pl.col("job") != JobKind.VIDEO
    cost = (
        CPU_PER_CLIP
        + pl.col("gigapixels") * pl.col("duration") * CPU_PER_GIGAPIXEL
        + pl.when(decodes_sound).then(pl.col("duration") * CPU_PER_AUDIO_SECOND).otherwise(0.0)
    )
    rows = pl.concat([videos, music]).filter(pl.col("job").is_in(jobs)).with_columns(cost=cost)
    return rows.drop("gigapixels").sort("dt", "job", "content_hash", "id")


def delivered_clips(
    lake: Lake, days: Sequence[dt.date], modalities: Collection[Modality]
) -> pl.DataFrame:
    """Read the clips that some landing days delivered, one per content and job.

    Returns:
        The columns of `delivered_rows`, of the first row of each clip by dt and id.
    """
    rows = delivered_rows(lake, days, modalities).sort("dt", "id")
    clips = rows.unique(["content_hash", "job"], keep="first")
    return clips.sort("dt", "job", "content_hash", "id")


def without_features(
    context: Context, clips: pl.DataFrame, modalities: Collection[Modality]
) -> pl.DataFrame:
    """Keep the clips that lack features by a current extractor.

    Args:
        context: settings and lake.
        clips: rows with content_hash and job.
        modalities: only features of these count.
    """
    hashes = clips["content_hash"].unique()
    complete = {modality: _complete(context, hashes, modality) for modality in modalities}
    lacks = pl.lit(False)
    for job, makes in MODALITIES_OF_JOB.items():
        for modality in set(makes) & set(modalities):
            of_clip, of_segments = complete[modality]
            have = of_segments if job is JobKind.SEGMENTS else of_clip
            lacks = lacks | ((pl.col("job") == job) & ~pl.col("content_hash").is_in(have.implode()))
    return clips.filter(lacks)


def _complete(
    context: Context, hashes: pl.Series, modality: Modality
) -> tuple[pl.Series, pl.Series]:
    """Return the hashes with features of the whole clip, and those with all segments' features."""
    lake = context.lake
    table = f"{modality}_features"
    rows = lake.collect(
        lake.scan(table)
        .filter(
            pl.col("extractor") == extractors(context.settings)[modality],
            pl.col("content_hash").is_in(hashes.implode()),
        )
        .select("content_hash", "segment"),
        table,
    )
    segments = (
        lake.read("segments", pl.col("content_hash").is_in(hashes.implode()))
        .select("content_hash", "segment")
        .unique()
    )
    missing = segments.join(rows, on=["content_hash", "segment"], how="anti")
    of_clip = rows.filter(pl.col("segment") == -1)["content_hash"]
    of_segments = segments.join(missing, on="content_hash", how="anti")["content_hash"].unique()
    return of_clip, of_segments


def first_delivery_days(lake: Lake, hashes: pl.Series) -> dict[str, dt.date]:
    """Return content_hash -> the earliest landing day that delivered it.

    Features are stored under that day, no matter which day's run extracts them. Two days that
    share a file and are extracted at the same time then write identical rows.
    """
    wanted = pl.col("content_hash").is_in(hashes.unique().implode())
    rows = [
        lake.collect(lake.scan(table).filter(wanted).select("content_hash", "dt"), table)
        for table in ("videos", "music")
    ]
    return dict(pl.concat(rows).group_by("content_hash").agg(pl.col("dt").min()).iter_rows())
