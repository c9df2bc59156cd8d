import numpy as np
import pytest
import torch

from models.networks import Dropout, Standardise


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    x = torch.ones(400, 501)
    y = Dropout(0.1)(x)
    dropped = 26 / 256
    assert float((y == 0).float().mean()) == pytest.approx(dropped, abs=0.003)
    assert float(y.mean()) == pytest.approx(1.0, abs=0.005)
    assert y.unique().tolist() == pytest.approx([0.0, 1 / (1 - dropped)])


def test_dropout_draws_each_element_by_itself() -> None:
    """Neighbours of one random word, and words of one row, share nothing."""
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(2000, 16)) > 0).double().numpy()
    correlation = np.corrcoef(kept, rowvar=False) - np.eye(16)
    assert np.abs(correlation).max() < 0.1


def test_what_is_dropped_gets_no_gradient() -> None:
    torch.manual_seed(0)
    x = torch.randn(7, 13, requires_grad=True)
    y = Dropout(0.3)(x)
    y.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    torch.testing.assert_close(x.grad * x.detach(), y.detach())


@pytest.mark.parametrize(("share", "training"), [(0.0, True), (0.3, False)])
def test_dropout_that_is_off_changes_nothing(share: float, training: bool) -> None:
    x = torch.randn(5, 5)
    assert Dropout(share).train(training)(x) is x


def test_columns_are_standardised_and_gaps_become_the_mean() -> None:
    rows = torch.tensor([[1.0, 7.0, 0.0], [3.0, 7.0, float("nan")], [5.0, 7.0, float("inf")]])
    standardise = Standardise(3)
    standardise.fit(rows)
    spread = (8 / 3) ** 0.5
    wanted = torch.tensor([[-2 / spread, 0.0, 0.0], [0.0, 0.0, 0.0], [2 / spread, 0.0, 0.0]])
    torch.testing.assert_close(standardise(rows), wanted)
    assert torch.isnan(rows[1, 2]), "the features handed in are left alone"
