from __future__ import annotations

import pytest
import torch

from models.standardise import Standardise, robust_range


def test_columns_are_standardised_and_missing_values_become_the_mean() -> None:
    rows = torch.tensor([[1.0, 7.0, 0.0], [3.0, 7.0, float("nan")], [5.0, 7.0, float("inf")]])
    standardise = Standardise(3)
    standardise.fit(rows)
    spread = (8 / 3) ** 0.5
    wanted = torch.tensor([[-2 / spread, 0.0, 0.0], [0.0, 0.0, 0.0], [2 / spread, 0.0, 0.0]])
    torch.testing.assert_close(standardise(rows), wanted)
    assert torch.isnan(rows[1, 2]), "the input is not changed"


def columns_of(rows: int) -> torch.Tensor:
    """Normal, log-normal, uniform, mostly zero and constant columns, far from zero and not."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(rows, generator=generator)
    rare = (torch.rand(rows, generator=generator) < 0.02).float()
    uniform = torch.rand(rows, generator=generator)
    constant = torch.full((rows,), 3.0)
    return torch.stack([50 + 2 * normal, normal.exp(), uniform, rare, constant], dim=1)


@pytest.mark.parametrize(
    "broken",
    [1e6, -1e6, 1e30, 0.0, float("nan"), float("inf")],
    ids=["huge", "negative", "beyond float32 squares", "zeros", "nan", "inf"],
)
@pytest.mark.parametrize("rows", [200, 20_000])
def test_a_few_broken_rows_do_not_move_mean_and_scale(broken: float, rows: int) -> None:
    sound = columns_of(rows)
    wanted, found = Standardise(5), Standardise(5)
    wanted.fit(sound)
    both = sound.clone()
    both[7::100] = broken if broken != 1e6 else sound[7::100] * 1e6
    found.fit(both)
    for name in ("scale", "mean"):
        one, other = getattr(found, name)[:3], getattr(wanted, name)[:3]
        torch.testing.assert_close(one, other, rtol=0.1, atol=0.02)
    standard = found(both)
    assert torch.isfinite(standard).all()
    assert float(standard.abs().max()) <= 10.0


def test_nan_and_infinity_do_not_change_the_range() -> None:
    sound, holes = columns_of(200), torch.full((100, 5), torch.nan)
    holes[::2] = torch.inf
    for one, other in zip(
        robust_range(torch.cat([sound, holes])), robust_range(sound), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_values_of_sound_columns_are_not_outliers() -> None:
    rows = columns_of(20_000)
    low, high = robust_range(rows)
    kept = ((rows >= low) & (rows <= high)).float().mean(dim=0)
    assert kept.tolist() == pytest.approx([1.0, 0.999, 1.0, 1.0, 1.0], abs=1e-3)
    standardise = Standardise(5)
    standardise.fit(rows)
    torch.testing.assert_close(1 / standardise.scale[:4], rows.std(dim=0)[:4], rtol=0.15, atol=0.0)
    assert float(standardise.scale[4]) == 0.0
    assert float(standardise(rows)[:, 4].abs().max()) == 0.0


def test_an_empty_table_is_standardised_to_zero() -> None:
    standardise = Standardise(2)
    standardise.fit(torch.full((4, 2), float("nan")))
    assert standardise(torch.tensor([[1.0, float("nan")]])).tolist() == [[0.0, 0.0]]
