"""Interpolation between teacher and student, and the statistics that it is decided by."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from models import (
    ModelConfig,
    Picks,
    TrainingData,
    train_student,
    train_teacher,
)
from models.interpolation import (
    STUDENT_SHARES,
    interpolate,
    interpolated_network,
    measure_likelihood,
    nearest_within_one_standard_error,
    negative_log_likelihood,
    significantly_lower,
)
from models.model import Model
from models.networks import DebcmNetwork
from models.objectives import PickChoice


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    return ModelConfig(epochs=6, teacher_epochs=6, batch_size=128, dim=16, hidden=32)


@pytest.fixture(scope="module")
def teacher(training: TrainingData, config: ModelConfig) -> Model:
    return train_teacher(training, config)


@pytest.fixture(scope="module")
def student(training: TrainingData, teacher: Model, config: ModelConfig) -> Model:
    return train_student(training, teacher, config.model_copy(update={"interpolate": False}))


def network_of(model: Model) -> DebcmNetwork:
    assert isinstance(model.network, DebcmNetwork)
    return model.network


def latents(network: DebcmNetwork, data: TrainingData) -> np.ndarray:
    with torch.no_grad():
        tracks = network.embed_music(torch.from_numpy(data.music), torch.zeros(90).long())
        return (network.embed_video(torch.from_numpy(data.video)) @ tracks.T).numpy()


@pytest.mark.parametrize(
    ("nll", "chosen"),
    [
        # Gains over the first row: 1.0 without variance, then less.
        ([[2, 2, 2, 2], [1, 1, 1, 1], [1.5, 1.5, 1.5, 1.5]], 1),
        # None is better than the teacher.
        ([[1, 1, 1, 1], [2, 2, 2, 2], [1.1, 1.1, 1.1, 1.1]], 0),
        # The last gains 1.0 +- 0.58 (deviation 1, four picks); the second's 0.6 is within that.
        ([[2, 2, 2, 2], [1.4, 1.4, 1.4, 1.4], [0, 2, 0, 2]], 1),
        # Its 0.4 is not within one error, but the gain of the last is not significant.
        ([[2, 2, 2, 2], [1.6, 1.6, 1.6, 1.6], [0, 2, 0, 2]], 0),
        # 1.0 +- 0.33 is significant, and 0.6 is not within one error of it.
        ([[2] * 10, [1.4] * 10, [0, 2] * 5], 2),
    ],
)
def test_the_nearest_point_within_one_standard_error_is_chosen(
    nll: list[list[float]], chosen: int
) -> None:
    found = np.array(nll)
    assert nearest_within_one_standard_error(found, np.arange(found.shape[1])) == chosen


def test_significance_is_clustered_by_uploader() -> None:
    """One uploader has half of the picks: 1.0 +- 0.13 by picks, but +- 0.5 by uploaders."""
    uploader = np.array([0] * 20 + list(range(1, 21)))
    gain = np.array([2.0] * 20 + [-0.5, 0.5] * 10)
    other = np.full(40, 3.0)
    assert significantly_lower(other - gain, other, np.arange(40))
    assert not significantly_lower(other - gain, other, uploader)
    assert significantly_lower(other - 0.1, other, uploader)
    assert not significantly_lower(other, other, uploader)


def test_few_uploaders_need_a_larger_t_value() -> None:
    """Three gains of 1.0 +- 0.29 are 3.5 standard errors; two degrees of freedom need 4.3."""
    other, gain = np.full(3, 2.0), np.array([0.5, 1.0, 1.5])
    assert not significantly_lower(other - gain, other, np.arange(3))
    assert significantly_lower(np.tile(other - gain, 4), np.tile(other, 4), np.arange(12))


def test_with_one_uploader_nothing_is_significant() -> None:
    one, other = np.zeros(50), np.ones(50)
    assert not significantly_lower(one, other, np.zeros(50, dtype=np.int64))
    assert (
        nearest_within_one_standard_error(np.stack([other, one]), np.zeros(50, dtype=np.int64)) == 0
    )


def test_the_ends_of_the_line_are_teacher_and_student(
    training: TrainingData, teacher: Model, student: Model
) -> None:
    first, last = network_of(teacher), network_of(student)
    wanted = latents(first, training), latents(last, training)
    assert not np.allclose(*wanted, atol=0.1)
    for share, scores in zip((0.0, 1.0), wanted, strict=True):
        assert np.allclose(
            latents(interpolated_network(first, last, share), training), scores, atol=1e-4
        )
    half = interpolated_network(first, last, 0.5)
    mean = 0.5 * (first.video.linear.weight + last.video.linear.weight)
    assert torch.allclose(half.video.linear.weight, mean)
    assert torch.allclose(half.log_scale, 0.5 * (first.log_scale + last.log_scale))
    assert torch.equal(half.lean, last.lean)


def test_the_nll_is_that_of_the_choice_model_fitted_to_later_picks(
    training: TrainingData, student: Model, config: ModelConfig
) -> None:
    network = interpolated_network(network_of(student), network_of(student), 1.0)
    found = negative_log_likelihood(network, training, config)
    count = len(training.validation)
    assert found.shape == (count,)
    # With the fitted parameters, the training objective gives the same value for each pick.
    train, later = training.train, training.validation
    names = ("video", "music", "uploader", "time", "preference")
    both = [np.concatenate([getattr(train, name), getattr(later, name)]) for name in names]
    objective = PickChoice(network, None, replace(training, train=Picks(*both)), config)
    rows = np.arange(len(train), len(train) + count)
    with torch.no_grad():
        torch.manual_seed(config.seed)
        each = F.cross_entropy(*objective.choice(objective.embed(rows)), reduction="none")
        assert np.allclose(found, each.numpy(), atol=1e-4)
        # Trained parameters explain the later picks less well than parameters fitted to them.
        trained = PickChoice(
            network_of(student), None, replace(training, train=Picks(*both)), config
        )
        torch.manual_seed(config.seed)
        before = F.cross_entropy(*trained.choice(trained.embed(rows)), reduction="none")
    assert found.mean() < before.numpy().mean()


def test_a_student_that_later_picks_confirm_stays_near_the_student(
    training: TrainingData, teacher: Model, student: Model, config: ModelConfig
) -> None:
    best = latents(network_of(student), training)[training.validation.video].argmax(axis=1)
    data = replace(training, validation=replace(training.validation, music=best))
    moved = replace(student, network=deepcopy(student.network))
    found = interpolate(moved, teacher, data)
    assert found.model is moved
    assert moved.student_share in STUDENT_SHARES
    assert moved.student_share >= 0.5
    wanted = interpolated_network(network_of(teacher), network_of(student), moved.student_share)
    assert np.allclose(latents(network_of(moved), data), latents(wanted, data), atol=1e-4)
    assert np.array_equal(found.nll, measure_likelihood(moved, data).nll)
    assert found.uploader.tolist() == data.validation.uploader.tolist()


def test_without_the_match_all_towers_give_the_same_nll(
    training: TrainingData, teacher: Model, student: Model, config: ModelConfig
) -> None:
    first, last = network_of(teacher), network_of(student)
    one, other = (interpolated_network(first, last, share) for share in (0.0, 1.0))
    found = [
        negative_log_likelihood(each, training, config, use_match=False) for each in (one, other)
    ]
    assert np.allclose(*found, atol=1e-3)
    with_match = negative_log_likelihood(deepcopy(last), training, config)
    assert found[0].mean() > with_match.mean() + 0.05


def test_a_teacher_of_random_segments_is_uninformative(
    training: TrainingData, config: ModelConfig
) -> None:
    order = np.random.default_rng(0).permutation(len(training.segment_music))
    data = replace(training, segment_music=training.segment_music[order])
    random = train_teacher(data, config)
    whole = config.model_copy(update={"interpolate": False, "epochs": 20})
    found = interpolate(train_student(data, random, whole), random, data)
    assert (found.held_back, found.uninformative_teacher) == (True, True)
