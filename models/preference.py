"""Estimates uploaders' genre preferences from their past uploads: a Dirichlet posterior mean."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import gammaln

from models.arrays import Float64Array, Int64Array

# Bounds of the fitted concentration: the first is reached if every uploader uploads a single genre
# group, the second if uploaders do not differ at all.
_MIN_CONCENTRATION = 1e-2
_MAX_CONCENTRATION = 1e6


def point_in_time_counts(
    uploader: Int64Array, time: Float64Array, group: Int64Array, n_groups: int
) -> Int64Array:
    """Count, for each upload, its uploader's strictly earlier uploads per genre group.

    Args:
        uploader: int64[P], any numbering.
        time: float64[P], seconds of the UTC epoch, in any order.
        group: int64[P], genre group of the upload's music, in 0..n_groups-1.
        n_groups: number of groups G.

    Returns:
        int64[P, G]. Uploads of one uploader at the same time do not count each other.

    Raises:
        ValueError: lengths differ, or a group is out of range.
    """
    if not len(uploader) == len(time) == len(group):
        raise ValueError(
            f"uploader, time and group must have the same length, "
            f"got {len(uploader)}, {len(time)} and {len(group)}"
        )
    if len(group) and (group.min() < 0 or group.max() >= n_groups):
        raise ValueError(f"group must be in 0..{n_groups - 1}, got {group.min()}..{group.max()}")
    order = np.lexsort((time, uploader))
    who, when = uploader[order], time[order]
    hits = np.zeros((len(order) + 1, n_groups), dtype=np.int64)
    hits[np.arange(1, len(order) + 1), group[order]] = 1
    before = np.cumsum(hits, axis=0)
    new_uploader = np.ones(len(order), dtype=np.bool_)
    new_uploader[1:] = who[1:] != who[:-1]
    new_moment = new_uploader.copy()
    new_moment[1:] |= when[1:] != when[:-1]
    position = np.arange(len(order))
    first_upload = np.maximum.accumulate(np.where(new_uploader, position, 0))
    this_moment = np.maximum.accumulate(np.where(new_moment, position, 0))
    counts = np.empty((len(order), n_groups), dtype=np.int64)
    counts[order] = before[this_moment] - before[first_upload]
    return counts


def posterior_mean(
    counts: Int64Array, prior_mean: Float64Array, concentration: float
) -> Float64Array:
    """Return the Dirichlet posterior mean of each row of counts.

    (n_g + concentration * prior_g) / (sum_g n_g + concentration).

    Args:
        counts: int64[U, G], uploads per genre group.
        prior_mean: float64[G], the population's preference, sums to one.
        concentration: strength of the prior in uploads, positive.

    Returns:
        float64[U, G], rows sum to one; a row of zeros gives the prior mean.
    """
    total = counts.sum(axis=1, keepdims=True)
    mean: Float64Array = (counts + concentration * prior_mean) / (total + concentration)
    return mean


def fit_concentration(counts: Int64Array, prior_mean: Float64Array) -> float:
    """Fit the prior's strength by empirical Bayes.

    Maximises the Dirichlet-multinomial likelihood of all uploaders' counts (Minka,
    "Estimating a Dirichlet distribution", 2000) over the one number that the fixed prior
    mean leaves free.

    Args:
        counts: int64[U, G], uploads per genre group of U uploaders.
        prior_mean: float64[G], the population's preference, all positive, sums to one.

    Returns:
        The concentration in uploads, between 0.01 and 1,000,000. If no uploader has two uploads,
        nothing can be estimated and the result is G, a weak prior.

    Raises:
        ValueError: a prior mean is not positive.
    """
    if not (prior_mean > 0).all():
        raise ValueError("prior_mean must be positive in every group: smooth it first")
    useful = counts[counts.sum(axis=1) > 1]
    if not len(useful):
        return float(len(prior_mean))
    total = useful.sum(axis=1)

    def negative_log_likelihood(log_concentration: float) -> float:
        strength = float(np.exp(log_concentration))
        alpha = strength * prior_mean
        by_group = gammaln(useful + alpha) - gammaln(alpha)
        by_uploader = gammaln(strength) - gammaln(total + strength)
        return -float(by_group.sum() + by_uploader.sum())

    bounds = (np.log(_MIN_CONCENTRATION), np.log(_MAX_CONCENTRATION))
    found = minimize_scalar(negative_log_likelihood, bounds=bounds, method="bounded")
    return float(np.exp(found.x))
