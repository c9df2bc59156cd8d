"""Population stability index: against a slow plain twin, and figures worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.reporting.drift import BINS, psi, psi_terms


def plain_psi(reference: np.ndarray, new: np.ndarray) -> float:
    """One column, value by value."""
    edges = sorted({float(np.quantile(reference, i / BINS)) for i in range(1, BINS)})

    def shares(rows: np.ndarray) -> list[float]:
        counts = [0.5] * (len(edges) + 1)
        for value in rows:
            counts[sum(value > edge for edge in edges)] += 1
        return [count / sum(counts) for count in counts]

    return sum(
        (p - q) * math.log(p / q) for p, q in zip(shares(new), shares(reference), strict=True)
    )


@pytest.mark.parametrize("shift", [0.0, 0.3, 3.0])
def test_psi_is_its_plain_twin(shift: float) -> None:
    rng = np.random.default_rng(0)
    reference, new = rng.normal(size=(400, 3)), rng.normal(size=(90, 3)) + shift
    reference[:, 2], new[:, 2] = np.round(reference[:, 2]), np.round(new[:, 2])
    found = psi(reference, new)
    assert found == pytest.approx([plain_psi(reference[:, i], new[:, i]) for i in range(3)])


def test_terms_by_hand() -> None:
    # With half a pseudo-count: q = (3.5, 1.5) / 5, p = (1.5, 3.5) / 5.
    terms = psi_terms(np.array([3, 1]), np.array([1, 3]))
    assert terms == pytest.approx([-0.4 * math.log(3 / 7), 0.4 * math.log(7 / 3)])


def test_equal_samples_do_not_drift_and_a_constant_column_is_no_error() -> None:
    rows = np.random.default_rng(1).normal(size=(200, 2))
    rows[:, 1] = 7.0
    assert psi(rows, rows) == pytest.approx([0.0, 0.0])


def test_two_samples_of_one_population_drift_as_chance_says() -> None:
    rng = np.random.default_rng(2)
    reference, new = rng.normal(size=(2000, 300)), rng.normal(size=(500, 300))
    by_chance = (BINS - 1) * (1 / 2000 + 1 / 500)
    assert psi(reference, new).mean() == pytest.approx(by_chance, rel=0.1)
