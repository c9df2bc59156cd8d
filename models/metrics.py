"""Measures rankings, over the full catalogue or over frozen negatives.

Tracks with the same score count as if they were in random order: measures are expected values. A
model or baseline whose scores are all equal therefore measures as well as random lists, no better
and no worse. A score that is NaN is an error, because it has no rank.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from models.arrays import BoolArray, Float32Array, Float64Array, Int64Array

# Share of the wanted genres mixed into the recommended ones, as in Steck (RecSys 2018), so that
# a genre that is never recommended has a finite cost.
CALIBRATION_MIXTURE = 0.01


def _refuse_nan(scores: Float32Array | Float64Array) -> None:
    """Raise if a score is NaN; infinite scores can be ranked."""
    bad = np.isnan(scores)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ValueError(
            f"the score of row {row}, track {column} is not a number and cannot be ranked"
        )


@dataclass(frozen=True)
class Ranks:
    """The ranks of n relevant tracks, with their ties.

    Attributes:
        better: int64[n], number of tracks with a higher score.
        tied: int64[n], number of other tracks with the same score.
    """

    better: Int64Array
    tied: Int64Array

    @property
    def expected(self) -> Float64Array:
        """float64[n]: the expected 0-based rank if ties are in random order."""
        return self.better + self.tied / 2

    def recall(self, k: int) -> Float64Array:
        """Return float64[n]: the probability that the relevant track is among the first k.

        Without ties it is 1 or 0. One track per row is relevant, so that this is the hit rate.

        Args:
            k: length of the recommended list.
        """
        return np.clip((k - self.better) / (self.tied + 1), 0.0, 1.0)

    def ndcg(self, k: int) -> Float64Array:
        """Return float64[n]: the expected gain, 1 / log2(rank + 2) for ranks below k, else 0.

        With one relevant track the ideal gain is 1, so this is the normalised gain.

        Args:
            k: length of the recommended list.
        """
        gain = 1.0 / np.log2(np.arange(k) + 2.0)
        first, last = np.minimum(self.better, k), np.minimum(self.better + self.tied + 1, k)
        total = np.concatenate([[0.0], np.cumsum(gain)])
        shared = (total[last] - total[first]) / (self.tied + 1)
        # Without ties the gain itself, which differences of sums would round.
        alone = np.append(gain, 0.0)[first]
        return np.where(self.tied == 0, alone, shared)


def ranks(scores: Float32Array, relevant: Int64Array) -> Ranks:
    """Rank each row's relevant track.

    Args:
        scores: float32[n, M], higher is better.
        relevant: int64[n], a column for each row.

    Raises:
        ValueError: a score is NaN.
    """
    _refuse_nan(scores)
    own = np.take_along_axis(scores, relevant[:, None], axis=1)
    better = (scores > own).sum(axis=1, dtype=np.int64)
    tied = (scores == own).sum(axis=1, dtype=np.int64) - 1
    return Ranks(better, tied)


def recall_at_k(scores: Float32Array, relevant: Int64Array, k: int) -> Float64Array:
    """Return float64[n]: `Ranks.recall` of each row's relevant track.

    Args:
        scores: float32[n, M].
        relevant: int64[n], the picked track of each row.
        k: length of the recommended list.
    """
    return ranks(scores, relevant).recall(k)


def ndcg_at_k(scores: Float32Array, relevant: Int64Array, k: int) -> Float64Array:
    """Return float64[n]: `Ranks.ndcg` of each row's relevant track.

    Args:
        scores: float32[n, M].
        relevant: int64[n], the picked track of each row.
        k: length of the recommended list.
    """
    return ranks(scores, relevant).ndcg(k)


def inverse_popularity_weights(relevant: Int64Array, n_music: int) -> Float64Array:
    """Return float64[n] that sum to one: each row weighs 1 / (rows with the same track).

    The paper's weighting: all tracks that were picked have the same total weight.

    Args:
        relevant: int64[n], the picked track of each row.
        n_music: size of the catalogue.
    """
    if not len(relevant):
        return np.zeros(0)
    count = np.bincount(relevant, minlength=n_music)
    weight = 1.0 / count[relevant]
    result: Float64Array = weight / weight.sum()
    return result


def top(scores: Float32Array | Float64Array, k: int) -> Int64Array:
    """Return int64[n, min(k, M)]: the best columns of each row, best first.

    Ties go to the lower column, so that equal scores always give the same list.

    Args:
        scores: float32 or float64 [n, M].
        k: length of the list.

    Raises:
        ValueError: a score is NaN.
    """
    _refuse_nan(scores)
    k = min(k, scores.shape[1])
    return np.argsort(-scores, axis=1, kind="stable")[:, :k].astype(np.int64)


def set_recall(recommended: Int64Array, truth: Int64Array) -> Float64Array:
    """Return float64[n]: the share of each row's true tracks that were recommended.

    Args:
        recommended: int64[n, k].
        truth: int64[n, t], the tracks that truly match best, without repetition.
    """
    hit = (truth[:, :, None] == recommended[:, None, :]).any(axis=2)
    share: Float64Array = hit.mean(axis=1)
    return share


def graded_ndcg(recommended: Int64Array, gain: Float64Array) -> Float64Array:
    """Return float64[n]: discounted gain of a list divided by that of the best possible list.

    Args:
        recommended: int64[n, k], best first.
        gain: float64[n, M], 0 or more: the true value of each track.
    """
    k = recommended.shape[1]
    discount = 1.0 / np.log2(np.arange(k) + 2.0)
    got = (np.take_along_axis(gain, recommended, axis=1) * discount).sum(axis=1)
    best = -np.sort(-gain, axis=1)[:, :k]
    ideal: Float64Array = got / np.maximum((best * discount).sum(axis=1), 1e-300)
    return ideal


@dataclass(frozen=True)
class FrozenNegatives:
    """A fixed evaluation set: each row's candidates, with their hash.

    Attributes:
        candidates: int64[n, 1 + negatives]; column 0 is the picked track.
        digest: sha256 of the candidates, 64 hex digits; equal digests mean equal sets.
    """

    candidates: Int64Array
    digest: str


def freeze_negatives(
    relevant: Int64Array, n_music: int, negatives: int, seed: int
) -> FrozenNegatives:
    """Draw each row's negatives uniformly, without repetition and without the picked track.

    Args:
        relevant: int64[n], the picked tracks.
        n_music: size of the catalogue.
        negatives: number of negatives per row; fewer if the catalogue is smaller.
        seed: of the drawing.
    """
    rng = np.random.default_rng(seed)
    count = min(negatives, n_music - 1)
    drawn = np.empty((len(relevant), count), dtype=np.int64)
    for row in range(len(relevant)):
        drawn[row] = rng.choice(n_music - 1, size=count, replace=False)
    drawn += drawn >= relevant[:, None]
    candidates = np.hstack([relevant[:, None], drawn])
    return FrozenNegatives(candidates, hashlib.sha256(candidates.tobytes()).hexdigest())


def sampled_scores(scores: Float32Array, frozen: FrozenNegatives) -> Float32Array:
    """Return float32[n, 1 + negatives]: scores of the candidates; the pick is in column 0."""
    picked: Float32Array = np.take_along_axis(scores, frozen.candidates, axis=1)
    return picked


def genre_share(recommended: Int64Array, genre_group: Int64Array, n_groups: int) -> Float64Array:
    """Return float64[G]: the share of each genre group among all recommended tracks."""
    count = np.bincount(genre_group[recommended].ravel(), minlength=n_groups)
    share: Float64Array = count / max(count.sum(), 1)
    return share


def genre_calibration(
    recommended: Int64Array, truth: Int64Array, genre_group: Int64Array, n_groups: int
) -> float:
    """Return KL(p || 0.99 q + 0.01 p) in nats; p are the wanted, q the recommended genre shares.

    Steck, "Calibrated recommendations" (RecSys 2018). Zero is perfectly calibrated; a genre that
    is never recommended costs its share times log 100, for any number of lists.

    Args:
        recommended: int64[n, k], recommended tracks.
        truth: int64[n, t], wanted tracks (true best matches, or observed picks).
        genre_group: int64[M].
        n_groups: number of genre groups G.
    """
    want = genre_share(truth, genre_group, n_groups)
    have = genre_share(recommended, genre_group, n_groups)
    have = (1.0 - CALIBRATION_MIXTURE) * have + CALIBRATION_MIXTURE * want
    used = want > 0
    return float((want[used] * np.log(want[used] / have[used])).sum())


def coverage(recommended: Int64Array, n_music: int) -> float:
    """Return the share of the catalogue that is recommended at least once, in 0..1."""
    return len(np.unique(recommended)) / n_music


def paired_bootstrap(
    a: Float64Array, b: Float64Array, weights: Float64Array, clusters: Int64Array, n: int, seed: int
) -> tuple[float, float, float]:
    """Compare two models on the same rows by a cluster bootstrap.

    Whole clusters are resampled, because rows of one uploader are not independent: an interval
    from single rows would be too narrow (Cameron, Gelbach and Miller, 2008).

    Args:
        a: float64[n_rows], per-row measure of one model, in 0..1.
        b: float64[n_rows], of the other.
        weights: float64[n_rows], 0 or more; normalised within each resample.
        clusters: int64[n_rows], any numbering: the uploader of each row.
        n: number of resamples.
        seed: of the resampling.

    Returns:
        (difference, low, high): weighted mean of a - b, with its 95 % interval. With one cluster
        the interval is -1 to 1, the largest possible for measures in 0..1.

    Raises:
        ValueError: lengths differ, or there are no rows.
    """
    if not len(a) == len(b) == len(weights) == len(clusters) or not len(a):
        raise ValueError(
            f"a, b, weights and clusters must have the same length and not be empty, "
            f"got {len(a)}, {len(b)}, {len(weights)} and {len(clusters)}"
        )
    rng = np.random.default_rng(seed)
    _, row = np.unique(clusters, return_inverse=True)
    count = int(row.max()) + 1
    gap, weight = np.bincount(row, (a - b) * weights), np.bincount(row, weights)
    difference = float(gap.sum() / max(weight.sum(), 1e-300))
    if count < 2:
        return difference, -1.0, 1.0
    draws = np.empty(n)
    for index in range(n):
        drawn = rng.integers(count, size=count)
        draws[index] = gap[drawn].sum() / max(weight[drawn].sum(), 1e-300)
    low, high = np.quantile(draws, [0.025, 0.975])
    return difference, float(low), float(high)


def by_slice(
    values: Float64Array, weights: Float64Array, slices: dict[str, BoolArray]
) -> dict[str, float]:
    """Return the weighted mean of a per-row measure over each slice that has rows.

    Args:
        values: float64[n], a per-row measure.
        weights: float64[n], 0 or more.
        slices: name -> bool[n], for example one per genre group, cold and known music.
    """
    means = {}
    for name, rows in slices.items():
        total = weights[rows].sum()
        if total > 0:
            means[name] = float((values[rows] * weights[rows]).sum() / total)
    return means
