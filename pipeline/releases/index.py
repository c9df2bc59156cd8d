"""The FAISS index of a release's music: exact up to a configured size, HNSW above."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss as _faiss
import numpy as np

from features.arrays import BoolArray, Float32Array, Int64Array
from pipeline.errors import ReleaseError

# The package's type stubs describe its C++ signatures, not those of its Python wrappers.
faiss: Any = _faiss


_NEIGHBOURS = 32
_EF_CONSTRUCTION = 200
_EF_SEARCH = 256


@dataclass(frozen=True)
class IndexReport:
    """How a written index answers.

    Attributes:
        kind: "flat" (exact) or "hnsw".
        tracks: vectors in it.
        queries: vectors it was asked for.
        k: length of the lists compared.
        recall: share of the exact top k that it found, 0..1.
    """

    kind: str
    tracks: int
    queries: int
    k: int
    recall: float


def build_index(embeddings: Float32Array, flat_below: int) -> Any:
    """Index music embeddings by inner product; equal input gives equal bytes.

    Args:
        embeddings: float32 [M, D].
        flat_below: largest M that is indexed exactly.
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
    # The graph depends on the order of insertion, which several threads do not keep.
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
    """Read an index back.

    Raises:
        ReleaseError: the file is missing or is no index.
    """
    try:
        return faiss.read_index(str(path))
    except RuntimeError as error:
        raise ReleaseError(f"not an index: {error}", where=str(path)) from error


def kind_of(index: Any) -> str:
    """The index's kind: "flat" (exact) or "hnsw"."""
    return "hnsw" if isinstance(index, faiss.IndexHNSW) else "flat"


def search(
    index: Any, queries: Float32Array, k: int, allowed: BoolArray | None = None
) -> tuple[Int64Array, Float32Array]:
    """The tracks with the highest inner products.

    Safe to call from several threads at once.

    Args:
        index: of M tracks.
        queries: float32 [n, D].
        k: length of the lists.
        allowed: bool [M], the tracks that may be answered; None: all.

    Returns:
        (rows int64 [n, k], scores float32 [n, k]), best first; row -1 where fewer were found.
    """
    selector = (
        faiss.IDSelectorAll()
        if allowed is None
        else faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
    )
    if kind_of(index) == "hnsw":
        wide = max(_EF_SEARCH, 2 * k)
        parameters = faiss.SearchParametersHNSW(sel=selector, efSearch=wide)
    else:
        parameters = faiss.SearchParameters(sel=selector)
    scores, rows = index.search(queries, k, params=parameters)
    return rows, scores


def measure(
    index: Any, embeddings: Float32Array, queries: Float32Array, k: int = 10
) -> IndexReport:
    """Compare the index's lists with exact search over the embeddings.

    A track counts as found when its score reaches that of the exact list's last one, so that
    equal scores may come in any order.

    Args:
        index: of the embeddings' M tracks.
        embeddings: float32 [M, D].
        queries: float32 [n, D].
        k: length of the lists.
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
        answered = np.take_along_axis(exact, np.maximum(rows[chunk], 0), axis=1)
        tolerance = 1e-5 * np.maximum(np.abs(last), 1.0)
        found += int(((answered >= last - tolerance) & (rows[chunk] >= 0)).sum())
    recall = found / (len(queries) * k)
    return IndexReport(kind_of(index), len(embeddings), len(queries), k, recall)
