"""The objectives, against slow plain versions that compute one row at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from models import ModelConfig, Picks, TrainingData, train_teacher
from models.debcm import latest_preferences
from models.networks import DebcmNetwork
from models.objectives import PickChoice, inverse_propensity, popularity_of
from models.setup import network_for
from models.variant import Stage

ROWS = np.arange(0, 60, 3)


def objective(training: TrainingData, **changes: Any) -> PickChoice:
    config = ModelConfig(dim=8, hidden=16, dropout=0.0, **changes)
    network = network_for(training, config, Stage.STUDENT)
    assert isinstance(network, DebcmNetwork)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        network.confounder.copy_(torch.randn(6, 6, generator=generator))
        network.lean.copy_(torch.randn(6, generator=generator))
        network.popularity.fill_(0.7)
        network.expertise.fill_(0.8)
    network.centre_on(latest_preferences(training))
    return PickChoice(network.eval(), None, training, config)


def plain_logits(made: PickChoice, row: int) -> list[float]:
    """Return the explained logit of every track for one pick, one number at a time."""
    data, network = made.data, made.network
    with torch.no_grad():
        video = network.video(torch.from_numpy(data.video[data.train.video[row]][None]))[0]
        music = network.music(torch.from_numpy(data.music))
    z = np.log(data.train.preference[row]) - network.centre.numpy()
    count = np.bincount(data.train.music, minlength=len(data.music))
    logits = []
    for track, group in enumerate(data.genre_group):
        match = float(network.scale.detach()) * float(video @ music[track])
        value = 0.8 * match
        if made.config.adjustment == "score":
            value += float(z @ network.confounder.detach().numpy()[:, group])
            value += float(network.lean.detach()[group])
        if made.config.popularity:
            share = (count[track] + 1) / (len(data.train) + len(data.music))
            value += 0.7 * math.log(share)
        logits.append(value)
    return logits


def negative_log_likelihood(logits: list[float], own: int, others: list[int]) -> float:
    total = math.exp(logits[own]) + sum(math.exp(logits[other]) for other in others)
    return math.log(total) - logits[own]


def choice_set_loss(made: PickChoice, row: int, sampled: list[int], masking: bool = True) -> float:
    """Return one pick's loss over the uploader's tracks and the sample, one track at a time."""
    train, logits = made.data.train, plain_logits(made, row)
    own = int(train.music[row])
    mine = set(train.music[train.uploader == train.uploader[row]].tolist())
    known = mine - {own} if masking else mine
    total = math.exp(logits[own]) + sum(math.exp(logits[each]) for each in known)
    unknown = set(sampled) - known - ({own} if masking else set())
    total += made.config.known / len(sampled) * sum(math.exp(logits[each]) for each in unknown)
    return math.log(total) - logits[own]


@pytest.mark.parametrize(
    "changes", [{}, {"adjustment": "none"}, {"popularity": False}], ids=["all", "no-z", "no-pop"]
)
def test_the_choice_set_loss_equals_a_plain_loop(
    training: TrainingData, changes: dict[str, Any]
) -> None:
    made = objective(training, contrast="history", **changes)
    every = list(range(len(training.music)))
    expected = np.mean([choice_set_loss(made, row, every) for row in ROWS])
    assert float(made(ROWS)["picks"].detach()) == pytest.approx(expected, rel=1e-4)


def test_a_sample_represents_the_further_tracks_of_the_choice_set(training: TrainingData) -> None:
    # As in a large catalogue, the sample misses most of the uploader's tracks.
    made = objective(training, contrast="history", sample=20)
    torch.manual_seed(3)
    found = float(made(ROWS)["picks"].detach())
    torch.manual_seed(3)
    sampled = torch.randperm(len(training.music))[:20].tolist()
    expected = np.mean([choice_set_loss(made, row, sampled) for row in ROWS])
    assert found == pytest.approx(expected, rel=1e-4)


def test_without_masking_the_own_track_is_its_own_negative(training: TrainingData) -> None:
    made = objective(training, contrast="history", masking=False)
    every = list(range(len(training.music)))
    expected = np.mean([choice_set_loss(made, row, every, masking=False) for row in ROWS])
    assert float(made(ROWS)["picks"].detach()) == pytest.approx(expected, rel=1e-4)


def test_the_catalogue_loss_equals_a_plain_loop(training: TrainingData) -> None:
    made = objective(training, contrast="catalogue")
    total = 0.0
    for row in ROWS:
        own = int(training.train.music[row])
        others = [track for track in range(len(training.music)) if track != own]
        total += negative_log_likelihood(plain_logits(made, row), own, others)
    assert float(made(ROWS)["picks"].detach()) == pytest.approx(total / len(ROWS), rel=1e-4)


@pytest.mark.parametrize("masking", [True, False])
def test_the_in_batch_loss_equals_a_plain_loop(training: TrainingData, masking: bool) -> None:
    made = objective(training, contrast="batch", masking=masking)
    train = training.train
    log_share = np.log(popularity_of(train, len(training.music)))
    total = 0.0
    for place, row in enumerate(ROWS):
        logits = [
            value - float(q) for value, q in zip(plain_logits(made, row), log_share, strict=True)
        ]
        own = int(train.music[row])
        others = [
            int(train.music[other])
            for column, other in enumerate(ROWS)
            if column != place and not (masking and train.music[other] == own)
        ]
        total += negative_log_likelihood(logits, own, others)
    assert float(made(ROWS)["picks"].detach()) == pytest.approx(total / len(ROWS), rel=1e-4)


def test_ips_weights_rows_by_inverse_popularity(training: TrainingData) -> None:
    made = objective(training, contrast="catalogue", ips=True)
    count = np.bincount(training.train.music, minlength=len(training.music)) + 1
    raw = 1 / count[training.train.music]
    clipped = np.minimum(raw / raw.mean(), 10.0)
    weights = clipped[ROWS] / clipped[ROWS].sum()
    total = 0.0
    for weight, row in zip(weights, ROWS, strict=True):
        own = int(training.train.music[row])
        others = [track for track in range(len(training.music)) if track != own]
        total += weight * negative_log_likelihood(plain_logits(made, row), own, others)
    assert float(made(ROWS)["picks"].detach()) == pytest.approx(total, rel=1e-4)


def test_propensity_weights_are_clipped_and_average_one() -> None:
    music = np.array([0] * 999 + [1])
    n = len(music)
    picks = Picks(
        np.zeros(n, dtype=np.int64),
        music,
        np.zeros(n, dtype=np.int64),
        np.zeros(n),
        np.ones((n, 1), dtype=np.float32),
    )
    weights = inverse_propensity(picks, 2)
    assert weights.mean() == pytest.approx(1.0, rel=1e-5)
    assert weights[-1] / weights[0] == pytest.approx(
        10.0 / (1 / 1000 / ((999 / 1000 + 0.5) / 1000)), rel=1e-3
    )


def test_losses_do_not_depend_on_the_order_of_a_step(training: TrainingData) -> None:
    teacher = train_teacher(training, ModelConfig(dim=8, hidden=16, teacher_epochs=1))
    assert isinstance(teacher.network, DebcmNetwork)
    config = ModelConfig(dim=8, hidden=16, dropout=0.0)
    network = network_for(training, config, Stage.STUDENT)
    assert isinstance(network, DebcmNetwork)
    made = PickChoice(network.eval(), teacher.network, training, config)
    one, other = made(ROWS), made(ROWS[::-1].copy())
    for name in ("picks", "distil"):
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-6)
