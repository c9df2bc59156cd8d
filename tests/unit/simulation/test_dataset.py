"""The split of a simulated world: order of time, point-in-time preferences, cold tracks."""

from __future__ import annotations

import numpy as np
import pytest

from simulation.dataset import WorldData, make_data
from simulation.world import World, WorldConfig, make_world


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(WorldConfig(n_videos=600, n_music=90, n_uploaders=15, n_pgc=3, knowledge=0.3))


@pytest.fixture(scope="module")
def data(world: World) -> WorldData:
    return make_data(world)


def test_picks_are_split_by_time_without_loss(world: World, data: WorldData) -> None:
    parts = [data.training.train, data.training.validation, data.test]
    assert [len(part) for part in parts] == [500, 50, 50]
    assert data.training.train.time.max() < data.training.validation.time.min()
    assert data.training.validation.time.max() < data.test.time.min()
    np.testing.assert_array_equal(np.concatenate([p.music for p in parts]), world.picks.music)


def test_a_preference_depends_only_on_earlier_picks(world: World, data: WorldData) -> None:
    train = data.training.train
    first = np.unique(train.uploader, return_index=True)[1]
    population = data.training.population_preference
    for row in first:
        np.testing.assert_allclose(train.preference[row], population, rtol=1e-5)
    np.testing.assert_allclose(train.preference.sum(axis=1), 1.0, rtol=1e-5)
    late = np.flatnonzero(train.uploader == train.uploader[-1])[-1]
    assert np.abs(train.preference[late] - population).max() > 0.01


def test_cold_tracks_have_no_training_pick(world: World, data: WorldData) -> None:
    assert len(data.cold) > 0
    seen = set(data.training.train.music.tolist())
    assert seen | set(data.cold.tolist()) == set(range(90))
    assert not seen & set(data.cold.tolist())


def test_unbiased_training_picks_leave_the_test_picks_alone(world: World, data: WorldData) -> None:
    oracle = make_data(world, unbiased=True)
    np.testing.assert_array_equal(oracle.test.music, data.test.music)
    np.testing.assert_array_equal(oracle.training.train.music, world.unbiased_picks.music[:500])
    assert not np.array_equal(oracle.training.train.music, data.training.train.music)
