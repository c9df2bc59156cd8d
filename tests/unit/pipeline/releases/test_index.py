"""The index is compared with exact search."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from pipeline.errors import ReleaseError
from pipeline.releases import index


def unit(rng: np.random.Generator, rows: int, dim: int = 16) -> np.ndarray:
    x = rng.standard_normal((rows, dim)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def exact(tracks: np.ndarray, query: np.ndarray, k: int, allowed=None) -> list[int]:
    """Slow reference: score the tracks one by one, best first."""
    rows = [row for row in range(len(tracks)) if allowed is None or allowed[row]]
    return sorted(rows, key=lambda row: -float(tracks[row] @ query))[:k]


@pytest.mark.parametrize("flat_below", [1000, 10])
def test_the_kind_is_chosen_by_size(rng: np.random.Generator, flat_below: int) -> None:
    built = index.build_index(unit(rng, 500), flat_below)
    assert index.kind_of(built) == ("flat" if flat_below == 1000 else "hnsw")
    assert built.ntotal == 500


def test_flat_search_is_exact_and_respects_the_filter(rng: np.random.Generator) -> None:
    tracks, queries = unit(rng, 300), unit(rng, 20)
    allowed = rng.random(300) < 0.3
    built = index.build_index(tracks, 1000)
    for only in (None, allowed):
        rows, scores = index.search(built, queries, 7, only)
        for query, found, score in zip(queries, rows, scores, strict=True):
            assert found.tolist() == exact(tracks, query, 7, only)
            np.testing.assert_allclose(score, tracks[found] @ query, rtol=1e-5)


def test_hnsw_finds_nearly_all_and_respects_the_filter(rng: np.random.Generator) -> None:
    tracks, queries = unit(rng, 3000), unit(rng, 50)
    built = index.build_index(tracks, 10)
    assert index.measure(built, tracks, queries).recall >= 0.99
    allowed = rng.random(3000) < 0.5
    rows, _ = index.search(built, queries, 10, allowed)
    assert allowed[rows].all()


def test_too_few_allowed_tracks_are_marked(rng: np.random.Generator) -> None:
    allowed = np.zeros(300, dtype=bool)
    allowed[:3] = True
    rows, _ = index.search(index.build_index(unit(rng, 300), 1000), unit(rng, 1), 5, allowed)
    assert rows[0].tolist()[3:] == [-1, -1]


def test_measure_counts_the_tracks_that_a_wrong_index_misses(rng: np.random.Generator) -> None:
    tracks, queries = unit(rng, 300), unit(rng, 40)
    right = index.measure(index.build_index(tracks, 1000), tracks, queries)
    assert (right.recall, right.k, right.queries) == (1.0, 10, 40)
    half = index.build_index(np.vstack([tracks[:150], np.zeros((150, 16), np.float32)]), 1000)
    found = index.measure(half, tracks, queries).recall
    by_hand = np.mean(
        [
            len(set(exact(tracks, q, 10)) & set(index.search(half, q[None], 10)[0][0])) / 10
            for q in queries
        ]
    )
    assert found == pytest.approx(by_hand)
    assert 0.3 < found < 0.7


def test_equal_scores_may_come_in_any_order() -> None:
    tracks = np.ones((20, 4), dtype=np.float32)
    built = index.build_index(tracks, 1000)
    assert index.measure(built, tracks, np.ones((3, 4), np.float32)).recall == 1.0


def test_an_empty_catalogue_can_be_indexed() -> None:
    empty = np.zeros((0, 4), dtype=np.float32)
    assert index.measure(index.build_index(empty, 10), empty, empty).recall == 1.0


def test_equal_input_gives_equal_bytes(rng: np.random.Generator, tmp_path: Path) -> None:
    tracks = unit(rng, 2000)
    for name in ("a", "b"):
        index.write_index(index.build_index(tracks, 10), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_building_restores_the_number_of_threads(rng: np.random.Generator) -> None:
    before = faiss.omp_get_max_threads()
    index.build_index(unit(rng, 100), 10)
    assert faiss.omp_get_max_threads() == before


def test_the_error_names_a_file_that_is_not_an_index(tmp_path: Path) -> None:
    (tmp_path / "x.faiss").write_bytes(b"not an index")
    with pytest.raises(ReleaseError, match=r"x\.faiss"):
        index.read_index(tmp_path / "x.faiss")
