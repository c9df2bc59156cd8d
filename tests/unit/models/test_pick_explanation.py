"""The explaining parameters are fitted before the towers are trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from models import Model, ModelConfig, TrainingData, train_student, train_teacher
from models.checkpoint import tensors_digest
from models.debcm import latest_preferences
from models.networks import DebcmNetwork
from models.objectives import PickChoice
from models.pick_explanation import embed_steps, fit_before_training
from models.setup import network_for
from models.variant import Stage

CONFIG = ModelConfig(epochs=1, teacher_epochs=6, batch_size=128, dim=16, hidden=32)


@pytest.fixture(scope="module")
def teacher(training: TrainingData) -> Model:
    return train_teacher(training, CONFIG)


def objective_of(training: TrainingData, teacher: Model | None, **changes: Any) -> PickChoice:
    config = CONFIG.model_copy(update=changes)
    network = network_for(training, config, Stage.STUDENT)
    assert isinstance(network, DebcmNetwork)
    network.centre_on(latest_preferences(training))
    guide = teacher.network if teacher is not None else None
    if guide is not None:
        assert isinstance(guide, DebcmNetwork)
        network.start_from(guide)
    return PickChoice(network.train(), guide, training, config)


@torch.no_grad()
def invert_match(network: DebcmNetwork) -> None:
    """Turn the best match into the worst."""
    for last in (network.video.linear, network.video.bend):
        last.weight.neg_()
        last.bias.neg_()


def mean_nll(objective: PickChoice) -> torch.Tensor:
    """Return the mean negative log-likelihood of all training picks, in eval mode."""
    objective.network.eval()
    steps = embed_steps(objective, np.arange(len(objective.data.train)))
    each = [F.cross_entropy(*objective.choice(step), reduction="sum") for step in steps]
    return torch.stack(each).sum() / len(objective.data.train)


def test_the_fitted_parameters_are_the_most_probable(
    training: TrainingData, teacher: Model
) -> None:
    objective = objective_of(training, teacher)
    before = float(mean_nll(objective).detach())
    fit_before_training(objective)
    free = objective.network.explaining_parameters()
    found = mean_nll(objective)
    assert float(found.detach()) < before - 0.05
    # The gradient of the prior N(start, 1) balances that of the likelihood.
    starts = [0.0, 0.0, 0.0, 1.0]
    for slope, each, start in zip(torch.autograd.grad(found, free), free, starts, strict=True):
        pull = (each.detach() - start) / len(training.train)
        torch.testing.assert_close(slope, -pull, atol=2e-3, rtol=0.0)


def test_training_starts_from_the_fitted_parameters(training: TrainingData, teacher: Model) -> None:
    still = CONFIG.model_copy(update={"learning_rate": 1e-12, "interpolate": False})
    student = train_student(training, teacher, still)
    objective = objective_of(training, teacher)
    fit_before_training(objective)
    assert isinstance(student.network, DebcmNetwork)
    for one, other in zip(
        student.network.explaining_parameters(),
        objective.network.explaining_parameters(),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_the_fit_changes_no_other_weights_and_no_random_state(
    training: TrainingData, teacher: Model
) -> None:
    objective = objective_of(training, teacher, popularity=False)
    network, state = objective.network, torch.get_rng_state()
    before = tensors_digest(network.video.state_dict() | network.music.state_dict())
    fit_before_training(objective)
    assert tensors_digest(network.video.state_dict() | network.music.state_dict()) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training
    assert float(network.popularity.detach()) == 0.0, "a switch that is off stays off"
    assert float(network.confounder.detach().abs().max()) > 0.0


def test_without_a_teacher_expertise_is_one(training: TrainingData) -> None:
    objective = objective_of(training, None)
    fit_before_training(objective)
    network = objective.network
    assert float(network.expertise.detach()) == 1.0
    assert network.expertise.requires_grad
    assert float(network.popularity.detach()) != 0.0


def test_without_a_teacher_the_match_is_left_out_of_the_fit(training: TrainingData) -> None:
    one, other = (objective_of(training, None) for _ in range(2))
    invert_match(other.network)
    for each in (one, other):
        fit_before_training(each)
    for a, b in zip(
        one.network.explaining_parameters(), other.network.explaining_parameters(), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0.0)


def test_expertise_stays_positive_if_uploaders_seem_to_avoid_the_match(
    training: TrainingData, teacher: Model
) -> None:
    objective = objective_of(training, teacher)
    invert_match(objective.network)
    fit_before_training(objective)
    assert float(objective.network.expertise.detach()) == pytest.approx(0.1)
