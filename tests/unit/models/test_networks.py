from __future__ import annotations

import numpy as np
import pytest
import torch

from models import ModelConfig, TrainingData
from models.networks import DebcmNetwork, Dropout, Tower


def test_dropout_drops_its_probability_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    x = torch.ones(400, 501)
    y = Dropout(0.1)(x)
    dropped = 26 / 256
    assert float((y == 0).float().mean()) == pytest.approx(dropped, abs=0.003)
    assert float(y.mean()) == pytest.approx(1.0, abs=0.005)
    assert y.unique().tolist() == pytest.approx([0.0, 1 / (1 - dropped)])


def test_dropout_draws_elements_independently() -> None:
    """Bytes of one random word and words of one row are uncorrelated."""
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(2000, 16)) > 0).double().numpy()
    correlation = np.corrcoef(kept, rowvar=False) - np.eye(16)
    assert np.abs(correlation).max() < 0.1


def test_dropped_elements_get_no_gradient() -> None:
    torch.manual_seed(0)
    x = torch.randn(7, 13, requires_grad=True)
    y = Dropout(0.3)(x)
    y.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    torch.testing.assert_close(x.grad * x.detach(), y.detach())


@pytest.mark.parametrize(("probability", "training"), [(0.0, True), (0.3, False)])
def test_dropout_changes_nothing_when_it_is_off(probability: float, training: bool) -> None:
    x = torch.randn(5, 5)
    assert Dropout(probability).train(training)(x) is x


def test_a_tower_returns_unit_vectors(quick: ModelConfig, training: TrainingData) -> None:
    tower = Tower(training.video.shape[1], quick).eval()
    with torch.no_grad():
        latents = tower(torch.from_numpy(training.video[:50]))
    assert latents.shape == (50, quick.dim)
    torch.testing.assert_close(latents.norm(dim=1), torch.ones(50))


def test_the_averaged_probability_is_the_plain_mean_over_uploaders(
    quick: ModelConfig,
) -> None:
    """P(Y | V, do(M)) = mean over uploaders of exp b_g(z) / sum_h share_h exp b_h(z)."""
    network = DebcmNetwork(32, 24, 6, quick)
    network.centre.copy_(torch.randn(6, generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        network.confounder.copy_(torch.eye(6))
        preference = torch.tensor([[0.5, 0.1, 0.1, 0.1, 0.1, 0.1], [0.1, 0.5, 0.1, 0.1, 0.1, 0.1]])
        share = torch.tensor([0.4, 0.2, 0.1, 0.1, 0.1, 0.1])
        network.fit_adjustment(preference, share)
        total = torch.zeros(6)
        for row in preference:
            b = torch.log(row) - network.centre
            total += b.exp() / (share * b.exp()).sum() / 2
    torch.testing.assert_close(network.adjustment, total.log())
