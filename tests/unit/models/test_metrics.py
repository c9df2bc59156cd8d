from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models import metrics


def in_random_order(row: np.ndarray, relevant: int) -> list[int]:
    """Return every rank of the relevant track that some order of its ties gives."""
    better = sum(1 for score in row if score > row[relevant])
    tied = sum(1 for track, score in enumerate(row) if track != relevant and score == row[relevant])
    return list(range(better, better + tied + 1))


scores_strategy = arrays(np.float32, (5, 8), elements=st.integers(-3, 3).map(float))
relevant_strategy = arrays(np.int64, 5, elements=st.integers(0, 7))


@given(scores_strategy, relevant_strategy, st.integers(1, 10))
def test_measures_are_averages_over_all_orders_of_ties(
    scores: np.ndarray, relevant: np.ndarray, k: int
) -> None:
    """Fault 34: ties were ranked last."""
    orders = [in_random_order(row, track) for row, track in zip(scores, relevant, strict=True)]
    found = metrics.ranks(scores, relevant)
    assert found.expected.tolist() == [np.mean(order) for order in orders]
    hits = [np.mean([rank < k for rank in order]) for order in orders]
    assert found.recall(k) == pytest.approx(hits)
    gains = [
        np.mean([1 / np.log2(rank + 2) if rank < k else 0.0 for rank in order]) for order in orders
    ]
    assert found.ndcg(k) == pytest.approx(gains)


def test_recall_and_ndcg_by_hand() -> None:
    scores = np.array([[0.9, 0.1, 0.5], [0.2, 0.8, 0.3]], dtype=np.float32)
    relevant = np.array([2, 0])
    assert metrics.ranks(scores, relevant).expected.tolist() == [1, 2]
    assert metrics.recall_at_k(scores, relevant, 2).tolist() == [1.0, 0.0]
    assert metrics.ndcg_at_k(scores, relevant, 3).tolist() == [1 / np.log2(3), 0.5]


def test_a_collapsed_model_is_as_good_as_random_lists() -> None:
    scores = np.zeros((4, 30), dtype=np.float32)
    relevant = np.array([0, 1, 2, 29])
    assert metrics.recall_at_k(scores, relevant, 25) == pytest.approx(25 / 30)
    random = np.mean([1 / np.log2(rank + 2) if rank < 25 else 0 for rank in range(30)])
    assert metrics.ndcg_at_k(scores, relevant, 25) == pytest.approx(random)


@pytest.mark.parametrize(
    "measure",
    [
        lambda scores: metrics.recall_at_k(scores, np.array([0, 0]), 4),
        lambda scores: metrics.ndcg_at_k(scores, np.array([0, 0]), 4),
        lambda scores: metrics.top(scores, 2),
    ],
    ids=["recall", "ndcg", "top"],
)
def test_a_nan_score_is_an_error(
    measure: Callable[[np.ndarray], np.ndarray],
) -> None:
    scores = np.zeros((2, 5), dtype=np.float32)
    scores[0, 1] = -np.inf
    assert np.isfinite(measure(scores)).all()
    scores[1, 3] = np.nan
    with pytest.raises(ValueError, match="row 1, track 3 is not a number and cannot be ranked"):
        measure(scores)


@given(arrays(np.int64, st.integers(1, 40), elements=st.integers(0, 6)))
def test_popularity_weights_sum_to_one_and_tracks_weigh_the_same(relevant: np.ndarray) -> None:
    weights = metrics.inverse_popularity_weights(relevant, 7)
    assert weights.sum() == pytest.approx(1.0)
    by_track = np.bincount(relevant, weights, minlength=7)
    picked = by_track[by_track > 0]
    assert picked == pytest.approx(np.full(len(picked), 1 / len(picked)))


def test_top_is_ordered_and_breaks_ties_by_column() -> None:
    scores = np.array([[0.1, 0.7, 0.7, 0.3]], dtype=np.float32)
    assert metrics.top(scores, 3).tolist() == [[1, 2, 3]]
    assert metrics.top(scores, 9).shape == (1, 4)


def test_set_recall_by_hand() -> None:
    recommended = np.array([[0, 1, 2], [3, 4, 5]])
    truth = np.array([[1, 9], [6, 7]])
    assert metrics.set_recall(recommended, truth).tolist() == [0.5, 0.0]


def test_graded_ndcg_by_hand_and_at_its_best() -> None:
    gain = np.array([[1.0, 0.0, 0.5]])
    discount = 1 / np.log2(3)
    got = metrics.graded_ndcg(np.array([[2, 0]]), gain)
    assert got == pytest.approx([(0.5 + discount) / (1.0 + 0.5 * discount)])
    assert metrics.graded_ndcg(np.array([[0, 2]]), gain) == pytest.approx([1.0])


def test_frozen_negatives_are_the_same_every_time_and_never_the_pick() -> None:
    relevant = np.array([3, 0, 199])
    first = metrics.freeze_negatives(relevant, 200, 100, seed=5)
    again = metrics.freeze_negatives(relevant, 200, 100, seed=5)
    other = metrics.freeze_negatives(relevant, 200, 100, seed=6)
    assert first.digest == again.digest != other.digest
    assert (first.candidates == again.candidates).all()
    assert (first.candidates[:, 0] == relevant).all()
    for row in first.candidates:
        assert len(set(row)) == 101
        assert 0 <= row.min() <= row.max() < 200


def test_frozen_negatives_of_a_small_catalogue_are_all_other_tracks() -> None:
    frozen = metrics.freeze_negatives(np.array([1]), 4, 100, seed=0)
    assert sorted(frozen.candidates[0]) == [0, 1, 2, 3]


def test_sampled_scores_keep_the_pick_first() -> None:
    scores = np.arange(12, dtype=np.float32).reshape(1, 12)
    frozen = metrics.freeze_negatives(np.array([7]), 12, 5, seed=0)
    assert metrics.sampled_scores(scores, frozen)[0, 0] == 7.0


def test_genre_calibration_by_hand() -> None:
    group = np.array([0, 0, 1, 1])
    even = np.array([[0, 2]] * 5000)
    majority = np.array([[0, 0, 0, 2]] * 2500)
    assert metrics.genre_calibration(even, even, group, 2) == pytest.approx(0.0, abs=1e-6)
    mixed = 0.99 * np.array([0.75, 0.25]) + 0.01 * 0.5
    expected = 0.5 * np.log(0.5 / mixed).sum()
    assert metrics.genre_calibration(majority, even, group, 2) == pytest.approx(expected)


@pytest.mark.parametrize("rows", [1, 1000])
def test_the_cost_of_a_group_never_recommended_is_independent_of_the_number_of_rows(
    rows: int,
) -> None:
    group = np.array([0, 1])
    recommended = np.zeros((rows, 1), dtype=np.int64)
    value = metrics.genre_calibration(recommended, np.array([[1]]), group, 2)
    assert value == pytest.approx(np.log(100))


def test_coverage_by_hand() -> None:
    assert metrics.coverage(np.array([[0, 1], [1, 2]]), 6) == 0.5


def test_the_bootstrap_interval_excludes_zero_only_for_a_real_difference() -> None:
    rng = np.random.default_rng(0)
    noise, alone = rng.normal(size=400), np.arange(400)
    weights = rng.random(400)
    difference, low, high = metrics.paired_bootstrap(
        noise + 0.5, noise, weights, alone, 200, seed=1
    )
    assert difference == pytest.approx(0.5)
    assert low == pytest.approx(0.5)
    assert high == pytest.approx(0.5)
    _, low, high = metrics.paired_bootstrap(
        noise, rng.normal(size=400), weights, alone, 200, seed=1
    )
    assert low < 0 < high


def test_bootstrap_weights_rows() -> None:
    a, b = np.array([1.0, 0.0]), np.array([0.0, 0.0])
    difference, _, _ = metrics.paired_bootstrap(
        a, b, np.array([3.0, 1.0]), np.arange(2), 10, seed=0
    )
    assert difference == pytest.approx(0.75)


def test_bootstrap_intervals_of_clustered_rows_cover_the_truth() -> None:
    """200 samples of 30 clusters of 20 rows: about 95 % of the intervals contain the truth."""
    rng = np.random.default_rng(0)
    clusters, held, held_by_rows = np.repeat(np.arange(30), 20), 0, 0
    for sample in range(200):
        better = rng.beta(1, 3, size=30)[clusters]
        gap = (rng.random(600) < better).astype(float)
        nothing, ones = np.zeros(600), np.ones(600)
        _, low, high = metrics.paired_bootstrap(gap, nothing, ones, clusters, 200, seed=sample)
        held += low <= 0.25 <= high
        _, low, high = metrics.paired_bootstrap(
            gap, nothing, ones, np.arange(600), 200, seed=sample
        )
        held_by_rows += low <= 0.25 <= high
    assert held >= 180
    assert held_by_rows < 160


def test_one_cluster_gives_the_widest_interval() -> None:
    found = metrics.paired_bootstrap(np.ones(9), np.zeros(9), np.ones(9), np.zeros(9), 50, seed=0)
    assert found == (1.0, -1.0, 1.0)


def test_bootstrap_refuses_unequal_lengths() -> None:
    with pytest.raises(ValueError, match="must have the same length"):
        metrics.paired_bootstrap(np.zeros(2), np.zeros(3), np.ones(2), np.zeros(2), 10, seed=0)


def test_slices_by_hand() -> None:
    values, weights = np.array([1.0, 0.0, 1.0]), np.array([1.0, 1.0, 2.0])
    slices = {
        "late": np.array([False, True, True]),
        "none": np.array([False, False, False]),
    }
    assert metrics.by_slice(values, weights, slices) == {"late": pytest.approx(2 / 3)}


@settings(max_examples=30)
@given(st.permutations(range(6)))
def test_ranks_do_not_depend_on_the_order_of_the_catalogue(order: list[int]) -> None:
    scores = np.random.default_rng(1).random((3, 6), dtype=np.float32)
    relevant = np.array([0, 3, 5])
    moved = np.argsort(order)[relevant]
    found = metrics.ranks(scores[:, order], moved)
    assert (found.better == metrics.ranks(scores, relevant).better).all()
