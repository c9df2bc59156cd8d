from __future__ import annotations

import dataclasses

import numpy as np
import torch

from models import TrainingData
from models.teacher_cache import TeacherCache, take


def test_take_copies_rows(training: TrainingData) -> None:
    rows = np.array([3, 0, 3])
    taken = take(training.video, rows, torch.device("cpu"))
    np.testing.assert_array_equal(taken.numpy(), training.video[rows])
    taken.zero_()
    assert training.video[rows].any()


def test_cached_embeddings_are_those_of_the_rows(training: TrainingData) -> None:
    """Videos that no pick uses are not embedded; the positions of the others shift."""
    used = np.flatnonzero(training.train.video >= 5)
    picks = dataclasses.replace(
        training.train,
        **{
            f.name: getattr(training.train, f.name)[used]
            for f in dataclasses.fields(training.train)
        },
    )
    data = dataclasses.replace(training, train=picks)
    embedded: list[int] = []

    def embed_video(rows: torch.Tensor) -> torch.Tensor:
        embedded.append(len(rows))
        return 2 * rows[:, :3]

    cache = TeacherCache(embed_video, lambda rows: rows[:, :3] + 1, data, torch.device("cpu"))
    rows = picks.video[[7, 0, 7]]
    np.testing.assert_array_equal(cache.video(rows).numpy(), 2 * training.video[rows, :3])
    tracks = np.array([4, 1])
    np.testing.assert_array_equal(cache.music(tracks).numpy(), training.music[tracks, :3] + 1)
    assert sum(embedded) == len(np.unique(picks.video)) < len(training.video)
