"""Measures how much a landing day differs from the previous weeks: population stability index.

PSI = sum over bins of (p - q) ln(p / q), where p and q are the shares of the new and the reference
rows in a bin. As a rule of thumb, a PSI below 0.1 is no shift and above 0.25 a large one. Two
samples of n and m rows from one population have a PSI of about (bins - 1) (1/n + 1/m) by chance,
which is not negligible for small days.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.compute as pc

from features.arrays import Float32Array, Float64Array
from features.sound.extractor import AudioExtractor
from features.video.extractor import VisualExtractor
from pipeline.extraction.clips import MODALITIES, Modality, extractors
from pipeline.lake import catalog
from pipeline.lake.codes import Source
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings
from pipeline.training.confounders import group_index

REFERENCE_DAYS = 28
BINS = 10
# PSI by chance is then below 0.002 (see above); more rows would only take longer.
MOST_ROWS = 10_000


@dataclass(frozen=True)
class Drift:
    """PSI of one block of features, or of the genre groups that uploaders pick.

    Attributes:
        name: for example "visual motion", "audio timbre" or "genres picked".
        value: the PSI; for a block of features its mean over the dimensions.
        by_chance: PSI expected of two samples of these sizes from one population.
        rows: rows of the landing day.
        reference_rows: rows of the previous weeks.
        parts: genre group -> its term of the sum; empty for features.
    """

    name: str
    value: float
    by_chance: float
    rows: int
    reference_rows: int
    parts: dict[str, float]


def feature_drift(settings: Settings, lake: Lake, day: dt.date) -> list[Drift]:
    """Return the drift of each feature block of whole clips, against the four weeks before `day`.

    A modality without rows on `day` or before it is left out.
    """
    found = []
    for modality in MODALITIES:
        new, reference = (
            _embeddings(settings, lake, modality, first, last)
            for first, last in ((day, day), _weeks_before(day))
        )
        if not len(new) or not len(reference):
            continue
        index = psi(reference, new)
        for block, part in _blocks(settings, modality).items():
            value = float(index[part].mean())
            found.append(_drift(f"{modality} {block}", value, BINS, len(new), len(reference), {}))
    return found


def genre_drift(settings: Settings, lake: Lake, day: dt.date) -> list[Drift]:
    """Return the drift of the genre groups picked, against the four weeks before `day`.

    The list is empty if there are no picks on `day` or before it.
    """
    groups = settings.genres.names
    tracks = lake.collect(catalog.music(lake, day).select("music_id", "genre_group"), "music")
    picks = lake.collect(
        catalog.videos(lake, day)
        .filter(pl.col("source") == Source.UGC, pl.col("dt") >= _weeks_before(day)[0])
        .join(tracks.lazy(), on="music_id")
        .select("dt", group_index(groups)),
        "videos",
    )
    new = _counts(picks.filter(pl.col("dt") == day), len(groups))
    reference = _counts(picks.filter(pl.col("dt") < day), len(groups))
    if not new.sum() or not reference.sum():
        return []
    terms = psi_terms(reference, new)
    # A group that nobody picks, before or on the day, does not count as a bin.
    bins = int(((new + reference) > 0).sum())
    parts = dict(zip(groups, terms.tolist(), strict=True))
    rows = int(new.sum()), int(reference.sum())
    return [_drift("genres picked", float(terms.sum()), bins, *rows, parts)]


def psi(reference: Float64Array, new: Float64Array) -> Float64Array:
    """Return float64 [D]: the PSI of each column, over ten bins with equal shares of the reference.

    Args:
        reference: float64 [n, D], at least one row.
        new: float64 [m, D], at least one row.
    """
    inner = np.quantile(reference, np.linspace(0, 1, BINS + 1)[1:-1], axis=0)
    result = np.empty(reference.shape[1])
    for column in range(reference.shape[1]):
        edges = np.unique(inner[:, column])
        counts = [
            np.bincount(np.searchsorted(edges, rows[:, column]), minlength=len(edges) + 1)
            for rows in (reference, new)
        ]
        result[column] = psi_terms(counts[0], counts[1]).sum()
    return result


def psi_terms(reference: npt.NDArray[np.int64], new: npt.NDArray[np.int64]) -> Float64Array:
    """Return float64 [bins]: each bin's term of the PSI.

    Half a pseudo-count is added to every bin, so that an empty bin has a finite term.

    Args:
        reference: int64 [bins], number of reference rows.
        new: int64 [bins], number of new rows.
    """
    q = (reference + 0.5) / (reference.sum() + 0.5 * len(reference))
    p = (new + 0.5) / (new.sum() + 0.5 * len(new))
    terms: Float64Array = (p - q) * np.log(p / q)
    return terms


def _drift(
    name: str, value: float, bins: int, rows: int, reference_rows: int, parts: dict[str, float]
) -> Drift:
    by_chance = max(bins - 1, 0) * (1 / rows + 1 / reference_rows)
    return Drift(name, value, by_chance, rows, reference_rows, parts)


def _weeks_before(day: dt.date) -> tuple[dt.date, dt.date]:
    return day - dt.timedelta(days=REFERENCE_DAYS), day - dt.timedelta(days=1)


def _embeddings(
    settings: Settings, lake: Lake, modality: Modality, first: dt.date, last: dt.date
) -> Float64Array:
    """Return float64 [n, D]: embeddings of whole clips, at most `MOST_ROWS` chosen at random.

    The rows are chosen by key, and then only their vectors are kept: weeks of vectors do not fit
    into memory.
    """
    table, extractor = f"{modality}_features", extractors(settings)[modality]
    chosen = lake.collect(
        lake.scan(table)
        .filter(
            pl.col("extractor") == extractor,
            pl.col("dt").is_between(first, last),
            pl.col("segment") == -1,
        )
        .select("content_hash"),
        table,
    ).sort("content_hash")
    if len(chosen) > MOST_ROWS:
        chosen = chosen.sample(MOST_ROWS, seed=settings.seed)
    of_clips = (
        (pc.field("extractor") == extractor)
        & (pc.field("dt") >= first)
        & (pc.field("dt") <= last)
        & (pc.field("segment") == -1)
    )
    parts = [
        _matrix(part.join(chosen, on="content_hash", how="semi"))
        for part in lake.slices(table, ["content_hash", "embedding"], of_clips)
    ]
    parts = [part for part in parts if len(part)]
    return np.concatenate(parts).astype(np.float64) if parts else np.empty((0, 1))


def _matrix(rows: pl.DataFrame) -> Float32Array:
    width = len(rows["embedding"][0]) if len(rows) else 1
    matrix: Float32Array = rows["embedding"].list.to_array(width).to_numpy()
    # A copy, because a view would keep the whole slice in memory.
    return matrix.copy()


def _blocks(settings: Settings, modality: Modality) -> Mapping[str, slice]:
    if modality is Modality.VISUAL:
        return VisualExtractor(settings.visual).blocks
    return AudioExtractor(settings.audio).blocks


def _counts(picks: pl.DataFrame, n_groups: int) -> npt.NDArray[np.int64]:
    return np.bincount(picks["genre_group"].to_numpy(), minlength=n_groups)
