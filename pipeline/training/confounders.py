"""Computes uploaders' genre preferences, the confounder that DebCM adjusts for."""

from __future__ import annotations

import datetime as dt
import logging
from dataclasses import dataclass

import numpy as np
import polars as pl

from features.arrays import Float64Array, Int64Array
from models.preference import fit_concentration, posterior_mean
from pipeline.context import Context
from pipeline.errors import NotEnoughDataError
from pipeline.lake import catalog
from pipeline.lake.codes import Source
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ConfounderSummary:
    """Statistics of the preferences as of a day.

    Attributes:
        as_of: the landing day, ISO.
        uploaders: number of uploaders with at least one pick.
        picks: number of picks.
        concentration: weight of the population prior, in picks.
        population: genre group -> preference of the population; sums to 1.
    """

    as_of: str
    uploaders: int
    picks: int
    concentration: float
    population: dict[str, float]


def run(context: Context, as_of: dt.date) -> ConfounderSummary:
    """Write table `uploader_genres` as of a day: counts and smoothed preference per uploader.

    A preference is the mean of a Dirichlet posterior. The prior's mean is the preference of the
    population; its concentration is fitted to the counts of all uploaders (empirical Bayes).

    Raises:
        NotEnoughDataError: there are no picks up to that day.
    """
    groups = context.settings.genres.names
    picks = picks_until(context.lake, as_of, groups)
    if picks.is_empty():
        raise NotEnoughDataError("no uploader's video has known music", where=as_of.isoformat())
    uploaders, counts = _counts(picks, len(groups))
    prior = population_prior(counts.sum(axis=0))
    concentration = fit_concentration(counts, prior)
    preference = posterior_mean(counts, prior, concentration)
    rows = pl.DataFrame(
        {
            "uploader_id": uploaders,
            "as_of": [as_of] * len(uploaders),
            "groups": [",".join(groups)] * len(uploaders),
            "counts": counts.tolist(),
            "preference": preference.astype(np.float32).tolist(),
        },
        schema=TABLES["uploader_genres"].empty.schema,
    )
    context.lake.replace("uploader_genres", rows, {"as_of": as_of})
    summary = ConfounderSummary(
        as_of.isoformat(),
        uploaders=len(uploaders),
        picks=len(picks),
        concentration=round(concentration, 4),
        population=dict(zip(groups, prior.round(4).tolist(), strict=True)),
    )
    log.info("confounders: %s", summary)
    return summary


def picks_until(lake: Lake, as_of: dt.date, groups: tuple[str, ...]) -> pl.DataFrame:
    """Read the uploaders' picks delivered up to the end of a day, oldest first.

    Args:
        lake: the tables.
        as_of: the last landing day, inclusive.
        groups: names of the genre groups; the last is "other".

    Returns:
        Columns video_id, uploader_id, music_id, uploaded_at and group (int64, index into
        `groups`), sorted by uploaded_at, then video_id.
    """
    tracks = lake.collect(catalog.music(lake, as_of).select("music_id", "genre_group"), "music")
    picks = (
        catalog.videos(lake, as_of)
        .filter(pl.col("source") == Source.UGC)
        .join(tracks.lazy(), on="music_id", how="inner")
        .with_columns(group_index(groups).alias("group"))
        .select("video_id", "uploader_id", "music_id", "uploaded_at", "group")
        .sort("uploaded_at", "video_id")
    )
    return lake.collect(picks, "videos")


def group_index(groups: tuple[str, ...]) -> pl.Expr:
    """Map column genre_group to an int64 index into `groups`; unknown groups map to the last."""
    return pl.col("genre_group").replace_strict(
        list(groups), list(range(len(groups))), default=len(groups) - 1, return_dtype=pl.Int64
    )


def population_prior(counts: Int64Array) -> Float64Array:
    """Return the preference of the population, with one pseudo-count per group.

    Args:
        counts: int64 [G], picks per genre group.

    Returns:
        float64 [G], positive, sums to 1.
    """
    smoothed = counts + 1.0
    prior: Float64Array = smoothed / smoothed.sum()
    return prior


def _counts(picks: pl.DataFrame, n_groups: int) -> tuple[list[str], Int64Array]:
    """Return the uploaders, sorted, and int64 [uploaders, G]: their picks per genre group."""
    uploaders = picks["uploader_id"].unique().sort().to_list()
    row_of = {uploader: row for row, uploader in enumerate(uploaders)}
    rows = picks["uploader_id"].replace_strict(row_of, return_dtype=pl.Int64).to_numpy()
    counts = np.zeros((len(uploaders), n_groups), dtype=np.int64)
    np.add.at(counts, (rows, picks["group"].to_numpy()), 1)
    return uploaders, counts
