"""Continuity of consecutive releases: the same axes, and how far common items moved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.arrays import Float32Array


@dataclass(frozen=True)
class Drift:
    """How far the embeddings of common items moved, after alignment.

    Attributes:
        items: items that both releases hold.
        mean: mean cosine distance (1 - cosine) between old and new, 0..2.
        p95: its 95th percentile.
        before_alignment: the mean it would have been on the new model's own axes.
    """

    items: int
    mean: float
    p95: float
    before_alignment: float


def procrustes(new: Float32Array, old: Float32Array) -> Float32Array:
    """The orthogonal map that brings the new embeddings closest to the old ones.

    Solves min ||new R - old|| over R^T R = I: R = U V^T of the singular value decomposition
    new^T old = U S V^T (Schoenemann 1966, "A generalized solution of the orthogonal Procrustes
    problem"). Both towers multiplied by R give the dot products they gave before.

    Args:
        new: float32 [n, D], n at least 1.
        old: float32 [n, D], the same items.

    Returns:
        float32 [D, D], orthogonal.

    Raises:
        ValueError: the shapes differ.
    """
    if new.shape != old.shape:
        raise ValueError(f"new and old must have one shape, got {new.shape} and {old.shape}")
    left, _, right = np.linalg.svd(new.astype(np.float64).T @ old.astype(np.float64))
    rotation: Float32Array = (left @ right).astype(np.float32)
    return rotation


def drift(pairs: Iterable[tuple[Float32Array, Float32Array]], rotation: Float32Array) -> Drift:
    """Measure how far common items moved.

    Args:
        pairs: float32 [n, D] each, some of the common items at a time: embeddings of the new
            model on its own axes, and of the earlier release.
        rotation: float32 [D, D], what `procrustes` gave.
    """
    aligned, before = np.empty(0), np.empty(0)
    for new, old in pairs:
        aligned = np.append(aligned, cosine_distance(new @ rotation, old))
        before = np.append(before, cosine_distance(new, old))
    return Drift(
        items=len(aligned),
        mean=float(aligned.mean()) if len(aligned) else 0.0,
        p95=float(np.quantile(aligned, 0.95)) if len(aligned) else 0.0,
        before_alignment=float(before.mean()) if len(before) else 0.0,
    )


def cosine_distance(a: Float32Array, b: Float32Array) -> npt.NDArray[np.float64]:
    """1 - cosine of the rows of two float32 [n, D]: float64 [n], 0..2."""
    product = np.einsum("ij,ij->i", a.astype(np.float64), b.astype(np.float64))
    norms = np.linalg.norm(a.astype(np.float64), axis=1) * np.linalg.norm(
        b.astype(np.float64), axis=1
    )
    # Rounding may put a cosine just outside of -1..1.
    distance: npt.NDArray[np.float64] = np.clip(1.0 - product / np.maximum(norms, 1e-12), 0.0, 2.0)
    return distance
