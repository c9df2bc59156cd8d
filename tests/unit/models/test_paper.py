"""Networks and objective of the paper's variants: `released` has each fault, the others do not.

See test_paper_losses.py for faults 1, 2 and 5, and test_preference.py for fault 6.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from models import Model, ModelConfig, TrainingData, fit
from models.paper import (
    PAPER,
    RELEASED,
    LinearFusion,
    VariationalEncoder,
    VariationalMatch,
    VariationalNetwork,
)
from models.registry import variant_of
from models.setup import network_for
from models.variant import Stage

SIZES = {"epochs": 2, "teacher_epochs": 2, "batch_size": 128, "dim": 16}


def ranking(model: Model, data: TrainingData) -> np.ndarray:
    return model.rank(data.video[:100], data.music, data.genre_group, len(data.music))[0]


def exchange_confounder(model: Model, data: TrainingData) -> None:
    """Replace the learned confounder embedding by a random one."""
    generator = torch.Generator().manual_seed(0)
    network = model.network
    with torch.no_grad():
        network.confounder.copy_(2 * torch.randn(network.confounder.shape, generator=generator))
    variant_of(model.config).fit_serving_terms(network, data, model.config)


def test_the_confounder_changes_no_ranking_of_released(training: TrainingData) -> None:
    """Fault 3: all tracks of a video are shifted equally, up to rounding."""
    model = fit(training, ModelConfig.preset("released", **SIZES))
    scores = model.embed_videos(training.video[:100]).astype(np.float64) @ model.embed_music(
        training.music, training.genre_group
    ).T.astype(np.float64)
    exchange_confounder(model, training)
    changed = model.embed_videos(training.video[:100]).astype(np.float64) @ model.embed_music(
        training.music, training.genre_group
    ).T.astype(np.float64)
    assert not np.allclose(changed, scores)
    np.testing.assert_allclose(
        changed - changed.mean(axis=1, keepdims=True),
        scores - scores.mean(axis=1, keepdims=True),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    "changes",
    [{"name": "paper"}, {"name": "debcm", "adjustment": "probability"}],
    ids=["paper", "debcm"],
)
def test_the_confounder_changes_rankings_of_the_other_variants(
    changes: dict[str, Any], training: TrainingData
) -> None:
    model = fit(training, ModelConfig.preset(**changes, **SIZES))
    before = ranking(model, training)
    exchange_confounder(model, training)
    assert (ranking(model, training) != before).mean() > 0.1


def noise_over_signal(fixed_noise: bool, training: TrainingData) -> float:
    config = ModelConfig.preset("paper", dim=128)
    columns = training.video.shape[1]
    encoder = VariationalEncoder(columns, config, fixed_noise=fixed_noise).eval()
    with torch.no_grad():
        mean, logvar = encoder(torch.from_numpy(training.video))
    noise = torch.exp(logvar / 2) * torch.randn(
        mean.shape, generator=torch.Generator().manual_seed(0)
    )
    return float(noise.norm(dim=1).mean() / mean.norm(dim=1).mean())


def test_the_noise_exceeds_the_signal_only_in_released(training: TrainingData) -> None:
    """Fault 4: a norm of about 11 in 128 dimensions against a signal of norm 1."""
    assert RELEASED.fixed_noise
    assert 10 < noise_over_signal(RELEASED.fixed_noise, training) < 13
    assert noise_over_signal(PAPER.fixed_noise, training) < 1.5


def test_only_released_uses_the_same_track_as_a_negative(training: TrainingData) -> None:
    """Fault 5 in the objective: `released` ignores which rows have the same track."""
    track = torch.tensor([1, 1, 2])
    scores = torch.tensor([[0.5, 0.49, 0.0], [0.49, 0.5, 0.0], [0.0, 0.0, 0.5]])
    found = {}
    for variant in ("released", "paper"):
        config = ModelConfig.preset(variant, **SIZES)
        network = network_for(training, config, Stage.STUDENT)
        assert isinstance(network, VariationalNetwork)
        objective = variant_of(config).prepare_student(network, None, training, config)
        assert isinstance(objective, VariationalMatch)
        alone = scores.clone()
        alone[0, 1] = alone[1, 0] = -1.0
        found[variant] = (
            float(objective._match(scores, track)),
            float(objective._match(alone, track)),
        )
    assert found["paper"][0] == found["paper"][1]
    assert found["released"][0] != found["released"][1]


def test_fusions_are_linear_and_interacting(training: TrainingData) -> None:
    released = network_for(training, ModelConfig.preset("released", **SIZES), Stage.STUDENT)
    paper = network_for(training, ModelConfig.preset("paper", **SIZES), Stage.STUDENT)
    assert isinstance(released, VariationalNetwork)
    assert isinstance(paper, VariationalNetwork)
    assert isinstance(released.fusion, LinearFusion)
    latent = torch.randn(4, 16, generator=torch.Generator().manual_seed(1))
    one, other = torch.eye(6)[0], torch.eye(6)[1]
    with torch.no_grad():
        shift = released.fuse(latent, one) - released.fuse(latent, other)
        torch.testing.assert_close(shift, shift[:1].expand_as(shift))
        moved = paper.fuse(latent, one) - paper.fuse(latent, other)
        assert not torch.allclose(moved, moved[:1].expand_as(moved), atol=1e-3)
        halfway = paper.fuse(latent, (one + other) / 2)
        mean = (paper.fuse(latent, one) + paper.fuse(latent, other)) / 2
    torch.testing.assert_close(halfway, mean)
