"""Turns a simulated world into training data: features, picks split by time, PGC pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.arrays import Float64Array, Int64Array
from models.data import Picks, TrainingData
from models.preference import fit_concentration, point_in_time_counts, posterior_mean
from simulation.world import Choices, World

TRAIN_SHARE = 10 / 12
VALIDATION_SHARE = 1 / 12


@dataclass(frozen=True)
class WorldData:
    """A world split by time: first training, then validation, then test picks.

    Attributes:
        training: data to train a model on, including the validation picks.
        test: the observed picks of the test period.
        test_videos: int64 [n], rows of the videos uploaded in the test period.
        cold: int64 [c], rows of the tracks without a training pick.
    """

    training: TrainingData
    test: Picks
    test_videos: Int64Array
    cold: Int64Array


def _population(world: World, choices: Choices, rows: Int64Array) -> Float64Array:
    """Return float64 [G]: the genre shares of the chosen tracks, smoothed by one count each."""
    group = world.music_group[choices.music[rows]]
    count = np.bincount(group, minlength=world.config.n_groups) + 1.0
    share: Float64Array = count / count.sum()
    return share


def make_data(world: World, *, unbiased: bool = False) -> WorldData:
    """Split a world by time and compute point-in-time preferences.

    Args:
        world: the world.
        unbiased: train on picks by affinity only instead of the uploaders' picks. An oracle is
            trained so. The test picks are the uploaders' in both cases.
    """
    observed = world.picks
    groups = world.config.n_groups
    train_end = round(len(observed.video) * TRAIN_SHARE)
    validation_end = train_end + round(len(observed.video) * VALIDATION_SHARE)
    train_rows = np.arange(train_end)
    prior = _population(world, observed, train_rows)
    group = world.music_group[observed.music]
    counts = point_in_time_counts(observed.uploader, observed.time, group, groups)
    per_uploader = np.zeros((world.config.n_uploaders, groups), dtype=np.int64)
    np.add.at(per_uploader, (observed.uploader[train_rows], group[train_rows]), 1)
    concentration = fit_concentration(per_uploader, prior)
    preference = posterior_mean(counts, prior, concentration).astype(np.float32)

    def picks(choices: Choices, rows: slice) -> Picks:
        return Picks(
            choices.video[rows],
            choices.music[rows],
            choices.uploader[rows],
            choices.time[rows],
            preference[rows],
        )

    learned = world.unbiased_picks if unbiased else observed
    training = TrainingData(
        video=world.video_features,
        music=world.music_features,
        genre_group=world.music_group,
        n_groups=groups,
        train=picks(learned, slice(0, train_end)),
        validation=picks(learned, slice(train_end, validation_end)),
        segment_video=world.segment_video_features,
        segment_music=world.segment_music_features,
        population_preference=prior.astype(np.float32),
    )
    test = picks(observed, slice(validation_end, None))
    seen = np.bincount(observed.music[train_rows], minlength=world.config.n_music) > 0
    return WorldData(training, test, test.video, np.flatnonzero(~seen))
