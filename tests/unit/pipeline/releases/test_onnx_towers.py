"""ONNX towers are opened only if they are of the release's run, and embed in parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ReleaseError
from pipeline.releases import onnx_towers
from pipeline.releases.files import read_release_info
from pipeline.releases.onnx_towers import (
    MUSIC_TOWER,
    VIDEO_TOWER,
    feature_count,
    open_tower,
    run_tower,
)
from pipeline.training.dataset import load_dataset


@pytest.fixture
def folder(published) -> Path:
    return published.store.fetch(f"releases/{published.run_id}")


def test_a_tower_of_another_run_or_a_damaged_one_is_refused(published, folder: Path) -> None:
    with pytest.raises(ReleaseError, match=f"tower of {published.run_id}, but .* 2026-01-01-x"):
        open_tower(folder, VIDEO_TOWER, "2026-01-01-x")
    (folder / VIDEO_TOWER).write_bytes(b"noise")
    with pytest.raises(ReleaseError, match="cannot open the tower"):
        open_tower(folder, VIDEO_TOWER, published.run_id)
    with pytest.raises(ReleaseError, match="cannot open the tower"):
        open_tower(folder, "no such tower", published.run_id)


def test_rows_are_embedded_alike_in_parts_and_at_once(
    published, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_dataset(published.store, published.run_id).training
    tower = open_tower(folder, MUSIC_TOWER, published.run_id)
    assert feature_count(tower) == data.music.shape[1]
    at_once = run_tower(tower, data.music, data.genre_group)
    monkeypatch.setattr(onnx_towers, "_ROWS", 7)
    in_parts = run_tower(tower, data.music, data.genre_group)
    assert at_once.shape == (len(data.music), read_release_info(folder).dim)
    np.testing.assert_allclose(in_parts, at_once, atol=1e-6)


def test_no_rows_give_no_embeddings(published, folder: Path) -> None:
    tower = open_tower(folder, VIDEO_TOWER, published.run_id)
    none = np.zeros((0, feature_count(tower)), dtype=np.float32)
    assert run_tower(tower, none).shape == (0, read_release_info(folder).dim)
