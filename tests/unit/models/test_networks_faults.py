"""Each fault of the released code is present in `released` and absent in the others.

Faults 1, 2 and 5 are those of losses, see test_losses.py; fault 6 is test_preference.py's.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from models import Model, ModelConfig, TrainingData, fit
from models.networks import DebcmNetwork, LinearFusion, VariationalEncoder, VariationalNetwork
from models.objectives import VariationalMatch
from models.setup import finish, network_for

SIZES = {"epochs": 2, "teacher_epochs": 2, "batch_size": 128, "dim": 16}


def ranking(model: Model, data: TrainingData) -> np.ndarray:
    return model.rank(data.video[:100], data.music, data.genre_group, len(data.music))[0]


def exchange_confounder(model: Model, data: TrainingData) -> None:
    """Replace the learned confounder embedding by a random one."""
    generator = torch.Generator().manual_seed(0)
    network = model.network
    with torch.no_grad():
        network.confounder.copy_(2 * torch.randn(network.confounder.shape, generator=generator))
    if isinstance(network, DebcmNetwork):
        finish(network, data, model.config)


def test_the_confounder_changes_no_ranking_of_released(training: TrainingData) -> None:
    """Fault 3, up to rounding: no pair of tracks swaps unless their scores are equal."""
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
def test_the_confounder_changes_rankings_of_the_others(
    changes: dict[str, Any], training: TrainingData
) -> None:
    model = fit(training, ModelConfig.preset(**changes, **SIZES))
    before = ranking(model, training)
    exchange_confounder(model, training)
    assert (ranking(model, training) != before).mean() > 0.1


def test_preferences_change_what_the_default_learns(training: TrainingData) -> None:
    """Averaged over the population, b is zero by design: it acts while training."""
    config = ModelConfig(**SIZES)
    exchanged = replace(training.train, preference=np.roll(training.train.preference, 7, axis=0))
    one = fit(training, config)
    other = fit(replace(training, train=exchanged), config)
    assert (ranking(one, training) != ranking(other, training)).mean() > 0.1


def noise_over_signal(variant: str, training: TrainingData) -> float:
    config = ModelConfig.preset(variant, dim=128)
    encoder = VariationalEncoder(training.video.shape[1], config).eval()
    with torch.no_grad():
        mean, logvar = encoder(torch.from_numpy(training.video))
    noise = torch.exp(logvar / 2) * torch.randn(
        mean.shape, generator=torch.Generator().manual_seed(0)
    )
    return float(noise.norm(dim=1).mean() / mean.norm(dim=1).mean())


def test_the_noise_drowns_the_signal_in_released_alone(training: TrainingData) -> None:
    """Fault 4: a norm of about 11 in 128 dimensions against a signal of norm 1."""
    assert 10 < noise_over_signal("released", training) < 13
    assert noise_over_signal("paper", training) < 1.5


def test_released_takes_the_same_track_for_a_negative(training: TrainingData) -> None:
    """Fault 5 in the objective: only the mended one is told which rows share a track."""
    track = torch.tensor([1, 1, 2])
    scores = torch.tensor([[0.5, 0.49, 0.0], [0.49, 0.5, 0.0], [0.0, 0.0, 0.5]])
    found = {}
    for variant in ("released", "paper"):
        config = ModelConfig.preset(variant, **SIZES)
        network = network_for(training, config, "student")
        assert isinstance(network, VariationalNetwork)
        objective = VariationalMatch(network, None, training, config, "student")
        alone = scores.clone()
        alone[0, 1] = alone[1, 0] = -1.0
        found[variant] = (
            float(objective._match(scores, track)),
            float(objective._match(alone, track)),
        )
    assert found["paper"][0] == found["paper"][1]
    assert found["released"][0] != found["released"][1]


def test_fusions_are_linear_and_interacting(training: TrainingData) -> None:
    released = network_for(training, ModelConfig.preset("released", **SIZES), "student")
    paper = network_for(training, ModelConfig.preset("paper", **SIZES), "student")
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
