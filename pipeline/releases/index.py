"""Builds, reads and searches the FAISS index of a release's music.

The index is exact up to a configured number of tracks, and HNSW above (Malkov and Yashunin, 2018).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import faiss as _faiss
import numpy as np

from features.arrays import BoolArray, Float32Array, Int64Array
from pipeline.errors import ReleaseError

# The package's type stubs describe its C++ signatures, not those of its Python wrappers.
faiss: Any = _faiss

# HNSW: links per vector, and sizes of the candidate lists while building and searching.
_NEIGHBOURS = 32
_EF_CONSTRUCTION = 200
_EF_SEARCH = 256


class IndexKind(StrEnum):
    """Kind of an index, as stored in manifest.json."""

    # Exact search.
    FLAT = "flat"
    # Approximate search.
    HNSW = "hnsw"


@dataclass(frozen=True)
class IndexReport:
    """Recall of an index, measured against exact search.

    Attributes:
        kind: kind of the index.
        tracks: number of vectors in the index.
        queries: number of query vectors.
        k: length of the compared lists.
        recall: share of the exact top k that the index found, 0..1.
    """

    kind: IndexKind
    tracks: int
    queries: int
    k: int
    recall: float


def build_index(embeddings: Float32Array, flat_below: int) -> Any:
    """Index music embeddings by inner product; equal input gives equal bytes.

    Args:
        embeddings: float32 [M, D].
        flat_below: largest M for which the index is exact.

    Returns:
        A faiss.Index.
    """
    dim = embeddings.shape[1]
    if len(embeddings) <= flat_below:
        index = faiss.IndexFlatIP(dim)
        index.add(embeddings)
        return index
    index = faiss.IndexHNSWFlat(dim, _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = _EF_CONSTRUCTION
    index.hnsw.efSearch = _EF_SEARCH
    threads = faiss.omp_get_max_threads()
    # One thread: the graph depends on the order of insertion.
    faiss.omp_set_num_threads(1)
    try:
        index.add(embeddings)
    finally:
        faiss.omp_set_num_threads(threads)
    return index


def write_index(index: Any, path: Path) -> None:
    """Write the index in FAISS's own format."""
    faiss.write_index(index, str(path))


def read_index(path: Path) -> Any:
    """Read an index.

    Raises:
        ReleaseError: the file is missing or is not an index.
    """
    try:
        return faiss.read_index(str(path))
    except RuntimeError as error:
        raise ReleaseError(f"not a FAISS index: {error}", where=str(path)) from error


def kind_of(index: Any) -> IndexKind:
    """Return the kind of an index."""
    return IndexKind.HNSW if isinstance(index, faiss.IndexHNSW) else IndexKind.FLAT


def search(
    index: Any, queries: Float32Array, k: int, allowed: BoolArray | None = None
) -> tuple[Int64Array, Float32Array]:
    """Find the tracks with the highest inner products. Thread-safe.

    Args:
        index: an index of M tracks.
        queries: float32 [n, D].
        k: number of tracks per query.
        allowed: bool [M], the tracks that may be returned; None for all.

    Returns:
        (rows int64 [n, k], scores float32 [n, k]), best first. Where fewer than k tracks were
        found, the remaining rows are -1.
    """
    selector = (
        faiss.IDSelectorAll()
        if allowed is None
        else faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
    )
    if kind_of(index) is IndexKind.HNSW:
        ef_search = max(_EF_SEARCH, 2 * k)
        parameters = faiss.SearchParametersHNSW(sel=selector, efSearch=ef_search)
    else:
        parameters = faiss.SearchParameters(sel=selector)
    scores, rows = index.search(queries, k, params=parameters)
    return rows, scores


def measure(
    index: Any, embeddings: Float32Array, queries: Float32Array, k: int = 10
) -> IndexReport:
    """Measure the recall of an index against exact search over the embeddings.

    A returned track counts as found if its score is at least that of the last track of the exact
    list, so that ties may be in any order.

    Args:
        index: an index of the embeddings.
        embeddings: float32 [M, D].
        queries: float32 [n, D].
        k: number of tracks per query.
    """
    k = min(k, len(embeddings))
    if not k or not len(queries):
        return IndexReport(kind_of(index), len(embeddings), len(queries), k, 1.0)
    rows, _ = search(index, queries, k)
    found = 0
    for start in range(0, len(queries), 64):
        chunk = slice(start, start + 64)
        exact = queries[chunk] @ embeddings.T
        last = np.partition(exact, -k, axis=1)[:, -k][:, None]
        returned = np.take_along_axis(exact, np.maximum(rows[chunk], 0), axis=1)
        tolerance = 1e-5 * np.maximum(np.abs(last), 1.0)
        found += int(((returned >= last - tolerance) & (rows[chunk] >= 0)).sum())
    recall = found / (len(queries) * k)
    return IndexReport(kind_of(index), len(embeddings), len(queries), k, recall)
