"""A simulated world as the models see it: features, picks split by time, PGC pairs."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.arrays import Int64Array
from models.data import Picks, TrainingData
from models.preference import fit_concentration, point_in_time_counts, posterior_mean
from simulation.world import Choices, World

TRAIN_SHARE = 10 / 12
VALIDATION_SHARE = 1 / 12


@dataclass(frozen=True)
class WorldData:
    """A world split by time.

    Attributes:
        training: what a model is trained on.
        test: the observed picks after the last cut-off.
        test_videos: int64[n], rows of the videos uploaded after it.
        cold: int64[c], tracks without a training pick: nobody picked them before the first
            cut-off.
    """

    training: TrainingData
    test: Picks
    test_videos: Int64Array
    cold: Int64Array


def _population(world: World, choices: Choices, rows: Int64Array) -> npt.NDArray[np.float64]:
    """Return float64[G]: the smoothed genre shares of the chosen tracks."""
    group = world.music_group[choices.music[rows]]
    count = np.bincount(group, minlength=world.config.n_groups) + 1.0
    share: npt.NDArray[np.float64] = count / count.sum()
    return share


def make_data(world: World, *, unbiased: bool = False) -> WorldData:
    """Split a world by time and compute point-in-time preferences.

    Args:
        world: the world.
        unbiased: take the picks by affinity alone in place of the uploaders', for the
            oracle; test picks stay the uploaders'.

    Returns:
        Train, validation and test, in order of time.
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
