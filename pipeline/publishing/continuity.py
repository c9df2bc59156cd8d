"""Aligns the embeddings of a new release with the previous one and measures how far items moved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from features.arrays import Float32Array, Float64Array


@dataclass(frozen=True)
class EmbeddingShift:
    """How far the embeddings of shared items moved from one release to the next.

    Attributes:
        items: number of items in both releases.
        mean: mean cosine distance (1 - cosine) between old and new after alignment, 0..2.
        p95: 95th percentile of that distance.
        before_alignment: mean cosine distance on the new model's own axes.
    """

    items: int
    mean: float
    p95: float
    before_alignment: float


def orthogonal_procrustes(new: Float32Array, old: Float32Array) -> Float32Array:
    """Return the orthogonal map that brings new embeddings closest to old ones.

    Solves min ||new R - old|| over R^T R = I: R = U V^T of the singular value decomposition
    new^T old = U S V^T (Schoenemann 1966, "A generalized solution of the orthogonal Procrustes
    problem"). Multiplying both towers by R keeps all their dot products.

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


def measure_shift(
    batches: Iterable[tuple[Float32Array, Float32Array]], rotation: Float32Array
) -> EmbeddingShift:
    """Measure how far shared items moved.

    Args:
        batches: pairs (new, old) of float32 [n, D], the same items in both: embeddings of the new
            model on its own axes, and of the previous release.
        rotation: float32 [D, D] from `orthogonal_procrustes`.
    """
    aligned, before = np.empty(0), np.empty(0)
    for new, old in batches:
        aligned = np.append(aligned, cosine_distance(new @ rotation, old))
        before = np.append(before, cosine_distance(new, old))
    return EmbeddingShift(
        items=len(aligned),
        mean=float(aligned.mean()) if len(aligned) else 0.0,
        p95=float(np.quantile(aligned, 0.95)) if len(aligned) else 0.0,
        before_alignment=float(before.mean()) if len(before) else 0.0,
    )


def cosine_distance(a: Float32Array, b: Float32Array) -> Float64Array:
    """Return 1 - cosine for each row of two float32 [n, D] arrays: float64 [n], 0..2."""
    product = np.einsum("ij,ij->i", a.astype(np.float64), b.astype(np.float64))
    norms = np.linalg.norm(a.astype(np.float64), axis=1) * np.linalg.norm(
        b.astype(np.float64), axis=1
    )
    # Rounding can put a cosine slightly outside -1..1.
    distance: Float64Array = np.clip(1.0 - product / np.maximum(norms, 1e-12), 0.0, 2.0)
    return distance
