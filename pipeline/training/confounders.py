"""Catalogue -> uploaders' genre preferences: the confounder that DebCM adjusts for."""

from __future__ import annotations

import datetime as dt
import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from models.preference import fit_concentration, posterior_mean
from pipeline.context import Context
from pipeline.errors import NotEnoughDataError
from pipeline.lake import catalog
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ConfounderSummary:
    """Statistics as of a day: how many uploaders, and how strongly the prior holds them.

    Attributes:
        as_of: the day, ISO.
        uploaders: uploaders with at least one pick.
        picks: their picks.
        concentration: strength of the population prior, in uploads.
        population: preference of the population per genre group; sums to 1.
    """

    as_of: str
    uploaders: int
    picks: int
    concentration: float
    population: dict[str, float]


def run(context: Context, as_of: dt.date) -> ConfounderSummary:
    """Write table `uploader_genres` for one day: counts and smoothed preference of each uploader.

    The preference is the mean of the Dirichlet posterior: prior mean is the population's
    preference, its concentration is fitted to all uploaders' counts (empirical Bayes).

    Raises:
        NotEnoughDataError: no uploader has picked anything up to that day.
    """
    settings, lake = context.settings, context.lake
    groups = settings.genres.names
    picks = picks_until(lake, as_of, groups)
    if picks.is_empty():
        raise NotEnoughDataError("no uploader's video with known music", where=as_of.isoformat())
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
    lake.replace("uploader_genres", rows, {"as_of": as_of})
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
    """Uploaders' picks delivered up to the end of a day, oldest first.

    Returns:
        Columns video_id, uploader_id, music_id, uploaded_at and group (int64, index into
        `groups`), sorted by uploaded_at, then video_id.
    """
    tracks = lake.collect(catalog.music(lake, as_of).select("music_id", "genre_group"), "music")
    picks = (
        catalog.videos(lake, as_of)
        .filter(pl.col("source") == "ugc")
        .join(tracks.lazy(), on="music_id", how="inner")
        .with_columns(group_index(groups).alias("group"))
        .select("video_id", "uploader_id", "music_id", "uploaded_at", "group")
        .sort("uploaded_at", "video_id")
    )
    return lake.collect(picks, "videos")


def group_index(groups: tuple[str, ...]) -> pl.Expr:
    """`genre_group` as an int64 index; a group the settings no longer name counts as other."""
    return pl.col("genre_group").replace_strict(
        list(groups), list(range(len(groups))), default=len(groups) - 1, return_dtype=pl.Int64
    )


def population_prior(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Preference of the population, float64 [G], with one pseudo-count a group.

    Args:
        counts: int64 [G], picks per genre group.
    """
    smoothed = counts + 1.0
    prior: npt.NDArray[np.float64] = smoothed / smoothed.sum()
    return prior


def _counts(picks: pl.DataFrame, n_groups: int) -> tuple[list[str], npt.NDArray[np.int64]]:
    uploaders = picks["uploader_id"].unique().sort().to_list()
    row_of = {uploader: row for row, uploader in enumerate(uploaders)}
    rows = picks["uploader_id"].replace_strict(row_of, return_dtype=pl.Int64).to_numpy()
    counts = np.zeros((len(uploaders), n_groups), dtype=np.int64)
    np.add.at(counts, (rows, picks["group"].to_numpy()), 1)
    return uploaders, counts
