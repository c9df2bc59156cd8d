"""What explains picks besides the match is fitted before the towers learn."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from models import Model, ModelConfig, TrainingData, train_student, train_teacher
from models.checkpoint import tensors_digest
from models.networks import DebcmNetwork
from models.objectives import PickChoice
from models.pick_explanation import embedded, explain_first
from models.setup import network_for, population_of

CONFIG = ModelConfig(epochs=1, teacher_epochs=6, batch_size=128, dim=16, hidden=32)


@pytest.fixture(scope="module")
def teacher(training: TrainingData) -> Model:
    return train_teacher(training, CONFIG)


def objective_of(training: TrainingData, teacher: Model | None, **changes: Any) -> PickChoice:
    config = CONFIG.model_copy(update=changes)
    network = network_for(training, config, "student")
    assert isinstance(network, DebcmNetwork)
    network.centre_on(population_of(training))
    guide = teacher.network if teacher is not None else None
    if guide is not None:
        assert isinstance(guide, DebcmNetwork)
        network.start_from(guide)
    return PickChoice(network.train(), guide, training, config)


@torch.no_grad()
def turned_round(network: DebcmNetwork) -> None:
    """Let the best match be the worst."""
    for last in (network.video.linear, network.video.bend):
        last.weight.neg_()
        last.bias.neg_()


def surprise_of(objective: PickChoice) -> torch.Tensor:
    """Return the mean surprise of every training pick, in eval mode."""
    objective.network.eval()
    steps = embedded(objective, np.arange(len(objective.data.train)))
    each = [F.cross_entropy(*objective.choice(step), reduction="sum") for step in steps]
    return torch.stack(each).sum() / len(objective.data.train)


def test_no_other_explanation_is_more_probable(training: TrainingData, teacher: Model) -> None:
    objective = objective_of(training, teacher)
    before = float(surprise_of(objective).detach())
    explain_first(objective)
    free = objective.network.explanations()
    found = surprise_of(objective)
    assert float(found.detach()) < before - 0.05
    # The prior N(start, 1) of each parameter pulls by its distance, over all picks.
    starts = [0.0, 0.0, 0.0, 1.0]
    for slope, each, start in zip(torch.autograd.grad(found, free), free, starts, strict=True):
        pull = (each.detach() - start) / len(training.train)
        torch.testing.assert_close(slope, -pull, atol=2e-3, rtol=0.0)


def test_a_student_starts_to_learn_with_the_fit_in_place(
    training: TrainingData, teacher: Model
) -> None:
    still = CONFIG.model_copy(update={"learning_rate": 1e-12, "interpolate": False})
    student = train_student(training, teacher, still)
    objective = objective_of(training, teacher)
    explain_first(objective)
    assert isinstance(student.network, DebcmNetwork)
    for one, other in zip(
        student.network.explanations(), objective.network.explanations(), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_the_fit_moves_nothing_else(training: TrainingData, teacher: Model) -> None:
    objective = objective_of(training, teacher, popularity=False)
    network, state = objective.network, torch.get_rng_state()
    before = tensors_digest(network.video.state_dict() | network.music.state_dict())
    explain_first(objective)
    assert tensors_digest(network.video.state_dict() | network.music.state_dict()) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training
    assert float(network.popularity.detach()) == 0.0, "a switch that is off stays off"
    assert float(network.confounder.detach().abs().max()) > 0.0


def test_untrained_towers_have_no_say(training: TrainingData) -> None:
    objective = objective_of(training, None)
    explain_first(objective)
    network = objective.network
    assert float(network.expertise.detach()) == 1.0
    assert network.expertise.requires_grad
    assert float(network.popularity.detach()) != 0.0


def test_the_match_of_untrained_towers_is_left_out_of_the_fit(training: TrainingData) -> None:
    one, other = (objective_of(training, None) for _ in range(2))
    turned_round(other.network)
    for each in (one, other):
        explain_first(each)
    for a, b in zip(one.network.explanations(), other.network.explanations(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0.0)


def test_uploaders_who_seem_to_avoid_the_match_do_not_turn_it_round(
    training: TrainingData, teacher: Model
) -> None:
    objective = objective_of(training, teacher)
    turned_round(objective.network)
    explain_first(objective)
    assert float(objective.network.expertise.detach()) == pytest.approx(0.1)
