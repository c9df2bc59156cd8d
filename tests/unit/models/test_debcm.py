"""The default variant: how a student starts, the learning rate, the terms of serving."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from models import Model, ModelConfig, TrainingData, fit, train_student, train_teacher
from models.debcm import DEBCM, latest_preferences
from models.networks import DebcmNetwork
from models.objectives import popularity_of


def test_a_student_starts_as_a_copy_of_its_teacher(
    training: TrainingData, quick: ModelConfig
) -> None:
    teacher = train_teacher(training, quick)
    config = quick.model_copy(update={"learning_rate": 1e-12, "epochs": 1, "picks_weight": 0.0})
    student = train_student(training, teacher, config)
    videos = training.video[:20]
    np.testing.assert_allclose(
        student.embed_videos(videos), teacher.embed_videos(videos), atol=1e-4
    )


def ranking(model: Model, data: TrainingData) -> np.ndarray:
    return model.rank(data.video[:100], data.music, data.genre_group, len(data.music))[0]


def test_preferences_change_what_the_default_learns(training: TrainingData) -> None:
    """Averaged over the population, b is zero by design: it only acts while training."""
    config = ModelConfig(epochs=2, teacher_epochs=2, batch_size=128, dim=16)
    exchanged = replace(training.train, preference=np.roll(training.train.preference, 7, axis=0))
    one = fit(training, config)
    other = fit(replace(training, train=exchanged), config)
    assert (ranking(one, training) != ranking(other, training)).mean() > 0.1


def test_the_learning_rate_warms_up_linearly_and_falls_to_zero() -> None:
    rates = [DEBCM.learning_rate_factor(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert 0 < rates[99] < 0.001
    assert all(later < earlier for earlier, later in pairwise(rates[10:]))


def test_the_population_has_each_uploaders_latest_preference(training: TrainingData) -> None:
    train = training.train
    wanted = []
    for uploader in sorted(set(train.uploader.tolist())):
        rows = np.flatnonzero(train.uploader == uploader)
        wanted.append(train.preference[rows[train.time[rows].argmax()]])
    np.testing.assert_array_equal(latest_preferences(training).numpy(), np.stack(wanted))


@torch.no_grad()
def network(quick: ModelConfig) -> DebcmNetwork:
    made = DebcmNetwork(32, 24, 6, quick)
    made.lean.copy_(torch.arange(6.0))
    made.popularity.fill_(0.5)
    made.confounder.copy_(torch.eye(6))
    return made


def test_unadjusted_scores_add_lean_and_mean_popularity_of_the_group(
    training: TrainingData, quick: ModelConfig
) -> None:
    made = network(quick)
    DEBCM.fit_serving_terms(made, training, quick)
    log_popularity = np.log(popularity_of(training.train, len(training.music)))
    for group in range(6):
        own = log_popularity[training.genre_group == group].mean() - log_popularity.mean()
        assert float(made.naive[group]) == pytest.approx(group + 0.5 * own, abs=1e-5)
    assert made.adjustment.tolist() == [0.0] * 6, "the averaged score needs no term"


def test_switched_off_confounders_add_nothing_to_unadjusted_scores(
    training: TrainingData, quick: ModelConfig
) -> None:
    made = network(quick)
    off = quick.model_copy(update={"adjustment": "none", "popularity": False})
    DEBCM.fit_serving_terms(made, training, off)
    assert made.naive.tolist() == [0.0] * 6


def test_the_averaged_probability_has_a_term_per_group(
    training: TrainingData, quick: ModelConfig
) -> None:
    made = network(quick)
    config = quick.model_copy(update={"adjustment": "probability"})
    DEBCM.fit_serving_terms(made, training, config)
    assert float(made.adjustment.abs().max()) > 0.0
