from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.preference import fit_concentration, point_in_time_counts, posterior_mean


def plain_counts(
    uploader: np.ndarray, moment: np.ndarray, group: np.ndarray, n_groups: int
) -> np.ndarray:
    counts = np.zeros((len(uploader), n_groups), dtype=np.int64)
    for row in range(len(uploader)):
        for other in range(len(uploader)):
            if uploader[other] == uploader[row] and moment[other] < moment[row]:
                counts[row, group[other]] += 1
    return counts


uploads = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 2)), min_size=1, max_size=30
)


@given(uploads)
def test_counts_equal_a_plain_loop(rows: list[tuple[int, int, int]]) -> None:
    table = np.array(rows, dtype=np.int64)
    who, when, group = table[:, 0], table[:, 1].astype(np.float64), table[:, 2]
    got = point_in_time_counts(who, when, group, 3)
    assert (got == plain_counts(who, when, group, 3)).all()


@given(uploads, st.integers(0, 2))
def test_a_future_upload_changes_no_earlier_row(
    rows: list[tuple[int, int, int]], other_group: int
) -> None:
    table = np.array(rows, dtype=np.int64)
    who, when, group = table[:, 0], table[:, 1].astype(np.float64), table[:, 2]
    before = point_in_time_counts(who, when, group, 3)
    last = int(np.argmax(when))
    changed = group.copy()
    changed[last] = other_group
    after = point_in_time_counts(who, when, changed, 3)
    assert (before == after).all()


def test_a_row_counts_neither_itself_nor_uploads_of_the_same_time() -> None:
    counts = point_in_time_counts(
        np.array([7, 7, 7]), np.array([1.0, 1.0, 2.0]), np.array([0, 1, 1]), 2
    )
    assert counts.tolist() == [[0, 0], [0, 0], [1, 1]]


def test_counts_refuse_a_group_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"group must be in 0\.\.1"):
        point_in_time_counts(np.array([0]), np.array([0.0]), np.array([2]), 2)


def test_posterior_mean_by_hand() -> None:
    got = posterior_mean(np.array([[3, 1], [0, 0]]), np.array([0.25, 0.75]), 4.0)
    assert got == pytest.approx(np.array([[0.5, 0.5], [0.25, 0.75]]))


@settings(deadline=None, max_examples=25)
@given(st.floats(0.1, 1000.0), st.integers(0, 50))
def test_posterior_mean_is_a_distribution(concentration: float, count: int) -> None:
    got = posterior_mean(np.array([[count, 0, 2]]), np.array([0.2, 0.3, 0.5]), concentration)
    assert got.sum() == pytest.approx(1.0)
    assert (got > 0).all()


@pytest.mark.parametrize("truth", [1.0, 8.0, 60.0])
def test_the_concentration_of_a_simulated_population_is_recovered(truth: float) -> None:
    rng = np.random.default_rng(0)
    prior = np.array([0.5, 0.3, 0.2])
    preferences = rng.dirichlet(truth * prior, size=3000)
    counts = np.stack([rng.multinomial(20, row) for row in preferences])
    assert fit_concentration(counts, prior) == pytest.approx(truth, rel=0.15)


def test_without_two_uploads_of_an_uploader_the_prior_is_weak() -> None:
    assert fit_concentration(np.array([[1, 0], [0, 1]]), np.array([0.5, 0.5])) == 2.0


def test_a_zero_prior_is_refused() -> None:
    with pytest.raises(ValueError, match="positive in every group"):
        fit_concentration(np.array([[2, 1]]), np.array([1.0, 0.0]))
