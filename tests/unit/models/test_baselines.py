"""Baselines, against slow plain versions and in their expected order."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from models import ModelConfig, TrainingData, fit, metrics
from models.baselines import (
    LearnedBaseline,
    Scorer,
    baseline_config,
    cca_scorer,
    genre_popularity_scorer,
    model_scorer,
    popularity_scorer,
    random_scorer,
)
from simulation.dataset import WorldData
from simulation.world import World


def true_recall(score: Scorer, world: World, data: WorldData) -> float:
    recommended = metrics.top(score(data.training.video[data.test_videos]), 10)
    truth = metrics.top(world.affinity(data.test_videos).astype(np.float32), 10)
    return float(metrics.set_recall(recommended, truth).mean())


def test_random_scores_are_repeatable_and_no_better_than_chance(
    tiny_world: World, world_data: WorldData
) -> None:
    training = world_data.training
    videos = training.video[:9]
    one, same, other = (random_scorer(training, seed)(videos) for seed in (1, 1, 2))
    assert one.shape == (9, len(training.music))
    np.testing.assert_array_equal(one, same)
    assert (one != other).mean() > 0.99
    chance = 10 / len(training.music)
    assert true_recall(random_scorer(training, 0), tiny_world, world_data) < 2 * chance


def test_popularity_ranks_by_number_of_picks(training: TrainingData) -> None:
    scores = popularity_scorer(training)(training.video[:3])
    count = np.bincount(training.train.music, minlength=len(training.music))
    np.testing.assert_allclose(scores[0], (count + 1) / (count + 1).sum(), rtol=1e-5)
    np.testing.assert_array_equal(scores[0], scores[2])


def test_popularity_per_genre_ranks_within_a_genre_by_popularity(training: TrainingData) -> None:
    scores = genre_popularity_scorer(training)(training.video[:20])
    count = np.bincount(training.train.music, minlength=len(training.music))
    for group in range(training.n_groups):
        tracks = np.flatnonzero(training.genre_group == group)
        share = (count[tracks] + 1) / (count[tracks] + 1).sum()
        for row in scores:
            np.testing.assert_allclose(row[tracks] / row[tracks].sum(), share, rtol=1e-4)


def test_cca_finds_the_one_shared_direction(training: TrainingData) -> None:
    """One column of the videos depends on the picked track; the others are noise."""
    rng = np.random.default_rng(0)
    video = rng.normal(size=training.video.shape).astype(np.float32)
    music = rng.normal(size=training.music.shape).astype(np.float32)
    train = training.train
    video[train.video, 4] = 3 * music[train.music, 2] + 5
    scores = cca_scorer(dataclasses.replace(training, video=video, music=music), 1)(video[:50])
    for row, own in zip(scores, video[:50, 4], strict=True):
        best = np.argsort(-row)[:20]
        assert np.mean(np.sign(music[best, 2]) == np.sign(own - 5)) > 0.8


@pytest.mark.parametrize("baseline", LearnedBaseline)
def test_learned_baselines_train_only_their_own_losses(
    baseline: LearnedBaseline, training: TrainingData
) -> None:
    config = ModelConfig(epochs=1, teacher_epochs=1, batch_size=128, dim=8, hidden=16)
    model = fit(training, baseline_config(baseline, config))
    distilled = baseline is LearnedBaseline.DISTILLED_WITHOUT_PICKS
    wanted = {"distil"} if distilled else {"picks"}
    assert set(model.training_log[-1].losses) == wanted
    stages = {log.stage for log in model.training_log}
    assert stages == ({"teacher", "student"} if distilled else {"student"})


def test_cca_and_the_dual_encoder_beat_popularity(tiny_world: World, world_data: WorldData) -> None:
    training = world_data.training
    config = ModelConfig(epochs=15, teacher_epochs=30, batch_size=128, teacher_batch_size=128)
    floor = true_recall(popularity_scorer(training), tiny_world, world_data)
    cca = cca_scorer(training, 8)
    dual = model_scorer(
        fit(training, baseline_config(LearnedBaseline.DUAL_ENCODER, config)), training
    )
    assert true_recall(cca, tiny_world, world_data) > 1.2 * floor
    assert true_recall(dual, tiny_world, world_data) > 1.2 * floor
