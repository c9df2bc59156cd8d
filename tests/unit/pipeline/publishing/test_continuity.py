"""Alignment keeps every dot product, undoes a rotation, and measures what moved."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.publishing.continuity import cosine_distance, measure_shift, orthogonal_procrustes
from pipeline.releases.files import MUSIC, VIDEO, read_vectors
from pipeline.releases.towers import load_towers


def rotation_of(rng: np.random.Generator, dim: int) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((dim, dim)))[0].astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), dim=st.integers(1, 12))
def test_alignment_undoes_a_rotation(seed: int, dim: int) -> None:
    rng = np.random.default_rng(seed)
    old = rng.standard_normal((3 * dim + 1, dim)).astype(np.float32)
    new = old @ rotation_of(rng, dim).T
    found = orthogonal_procrustes(new, old)
    np.testing.assert_allclose(found @ found.T, np.eye(dim), atol=1e-5)
    np.testing.assert_allclose(new @ found, old, atol=1e-4)


def test_no_other_rotation_is_closer_to_the_old_embeddings(rng: np.random.Generator) -> None:
    new, old = rng.standard_normal((2, 40, 5)).astype(np.float32)
    best = np.linalg.norm(new @ orthogonal_procrustes(new, old) - old)
    others = [np.linalg.norm(new @ rotation_of(rng, 5) - old) for _ in range(200)]
    assert best <= min(others)


def test_different_shapes_are_refused(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match=r"\(3, 2\) and \(3, 4\)"):
        orthogonal_procrustes(np.zeros((3, 2), np.float32), np.zeros((3, 4), np.float32))


def test_cosine_distance_by_hand() -> None:
    a = np.array([[1, 0], [1, 0], [2, 0]], dtype=np.float32)
    b = np.array([[3, 0], [0, 5], [-1, 0]], dtype=np.float32)
    np.testing.assert_allclose(cosine_distance(a, b), [0, 1, 2])


def test_shift_before_and_after_alignment() -> None:
    quarter = np.array([[0, 1], [-1, 0]], dtype=np.float32)
    old = np.array([[1, 0], [0, 1]], dtype=np.float32)
    found = measure_shift([(old @ quarter, old)], orthogonal_procrustes(old @ quarter, old))
    assert found.items == 2
    assert found.mean == pytest.approx(0, abs=1e-6)
    assert found.before_alignment == pytest.approx(1)


def test_batches_give_the_shift_of_all_items(rng: np.random.Generator) -> None:
    new, old = rng.standard_normal((2, 5, 3)).astype(np.float32)
    rotation = orthogonal_procrustes(new, old)
    parts = [(new[rows], old[rows]) for rows in (slice(0, 2), slice(2, 5))]
    assert measure_shift(parts, rotation) == measure_shift([(new, old)], rotation)
    assert measure_shift([], rotation).items == 0


def test_the_next_release_is_aligned_with_the_previous_one(published, next_run, publishing) -> None:
    rng = np.random.default_rng(0)

    @torch.no_grad()
    def turn(model) -> None:
        # The same model on other axes: a random rotation inside both towers.
        turned = torch.from_numpy(rotation_of(rng, model.config.dim))
        for tower in (model.network.video, model.network.music):
            for layer in (tower.linear, tower.bend):
                layer.weight.copy_(turned @ layer.weight)
                layer.bias.copy_(turned @ layer.bias)

    run_id = next_run(published, turn)
    publishing(published, run_id)
    folders = [published.store.fetch(f"releases/{name}") for name in (published.run_id, run_id)]
    tables = {
        file: [read_vectors(folder / file, folder.name, "embedding") for folder in folders]
        for file in (MUSIC, VIDEO)
    }
    for old, new in tables.values():
        np.testing.assert_allclose(new, old, atol=1e-3)
    continuity = json.loads((folders[1] / "metrics.json").read_text())["continuity"]
    assert continuity["previous"] == published.run_id
    assert continuity["music"]["mean"] < 1e-4 < 0.1 < continuity["music"]["before_alignment"]
    assert continuity["video"]["items"] == 900
    # Dot products are those of the model on its own axes.
    towers = load_towers(folders[1])
    data = np.random.default_rng(1).standard_normal((5, 24)).astype(np.float32)
    music = np.random.default_rng(2).standard_normal((7, 16)).astype(np.float32)
    group = np.zeros(7, dtype=np.int64)
    own = towers.model.embed_videos(data) @ towers.model.embed_music(music, group).T
    aligned = towers.embed_videos(data) @ towers.embed_music(music, group).T
    np.testing.assert_allclose(aligned, own, atol=1e-4)
