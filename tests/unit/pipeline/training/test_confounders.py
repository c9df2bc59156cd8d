"""Uploaders' genre preferences: counts per genre group, smoothed by the population's preference."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest

from pipeline.context import Context
from pipeline.errors import NotEnoughDataError
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings
from pipeline.training import confounders
from pipeline.training.confounders import group_index, picks_until, population_prior
from tests.helpers.small_catalogue import FIRST, LAST, fill


def test_confounders_count_each_uploader(settings: Settings, lake: Lake) -> None:
    fill(settings, lake, [("a", "u1", "m0", 0), ("b", "u1", "m2", 1), ("c", "u2", "m1", 2)])
    summary = confounders.run(Context(settings), LAST)
    assert (summary.uploaders, summary.picks) == (2, 3)
    rows = lake.read("uploader_genres").sort("uploader_id")
    groups = rows["groups"][0].split(",")
    first = dict(zip(groups, rows["counts"][0], strict=True))
    assert {name: n for name, n in first.items() if n} == {"rock": 1, "pop": 1}
    assert np.allclose([sum(row) for row in rows["preference"]], 1, atol=1e-6)
    # One pseudo-count per group: rock has 2 + 1 of 3 + 7.
    assert summary.population["rock"] == pytest.approx(0.3)


def test_confounders_without_picks_are_an_error(settings: Settings, lake: Lake) -> None:
    with pytest.raises(NotEnoughDataError):
        confounders.run(Context(settings), LAST)


def test_running_again_replaces_the_rows_of_the_day(settings: Settings, lake: Lake) -> None:
    fill(settings, lake, [("a", "u1", "m0", 0), ("b", "u2", "m2", 1)])
    for _ in range(2):
        confounders.run(Context(settings), LAST)
    confounders.run(Context(settings), FIRST)
    assert lake.read("uploader_genres").group_by("as_of").len().sort("as_of").rows() == [
        (FIRST, 2),
        (LAST, 2),
    ]


def test_picks_are_those_delivered_by_the_day_with_known_tracks_oldest_first(
    settings: Settings, lake: Lake
) -> None:
    groups = settings.genres.names
    fill(settings, lake, [("a", "u1", "m2", 5), ("b", "u1", "m3", 1), ("c", "u1", "m0", 30)])
    # m3 is delivered on the last day only.
    assert picks_until(lake, FIRST, groups)["video_id"].to_list() == ["a"]
    picks = picks_until(lake, LAST, groups)
    assert picks["video_id"].to_list() == ["b", "a", "c"]
    assert [groups[group] for group in picks["group"]] == ["folk", "pop", "rock"]
    assert picks_until(lake, FIRST - dt.timedelta(days=1), groups).is_empty()


def test_an_unknown_genre_group_counts_as_the_last() -> None:
    groups = ("rock", "pop", "other")
    frame = pl.DataFrame({"genre_group": ["pop", "gone", "rock", "other"]})
    assert frame.select(group_index(groups)).to_series().to_list() == [1, 2, 0, 2]


def test_the_population_prior_has_one_pseudo_count_per_group() -> None:
    np.testing.assert_allclose(population_prior(np.array([0, 3, 1])), np.array([1, 4, 2]) / 7)
