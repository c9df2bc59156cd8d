"""Both forms of the towers give the same embeddings, and are written reproducibly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from pipeline.errors import ReleaseError
from pipeline.releases.onnx_towers import MUSIC_TOWER, VIDEO_TOWER
from pipeline.releases.towers import ALIGNMENT, Towers, load_towers, save_towers
from pipeline.training.dataset import load_dataset
from tests.helpers.umask import mode


@pytest.mark.parametrize("kind", ["video", "music"])
def test_onnx_and_safetensors_towers_agree(published, kind: str) -> None:
    data = load_dataset(published.store, published.run_id).training
    folder = published.store.fetch(f"releases/{published.run_id}")
    towers = load_towers(folder)
    name = VIDEO_TOWER if kind == "video" else MUSIC_TOWER
    session = ort.InferenceSession(str(folder / name))
    feed = {"features": getattr(data, kind)}
    if kind == "video":
        expected = towers.embed_videos(data.video)
    else:
        feed["genre_group"] = data.genre_group
        expected = towers.embed_music(data.music, data.genre_group)
    found = session.run(None, feed)[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert session.get_modelmeta().custom_metadata_map["run_id"] == published.run_id


def test_a_rotation_changes_embeddings_but_no_score(published) -> None:
    data = load_dataset(published.store, published.run_id).training
    model = load_towers(published.store.fetch(f"releases/{published.run_id}")).model
    dim = model.embed_videos(data.video[:1]).shape[1]
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(dim, dim)))[0].astype(np.float32)
    plain = Towers(model, np.eye(dim, dtype=np.float32), published.run_id)
    rotated = Towers(model, rotation, published.run_id)
    video, music, group = data.video[:20], data.music, data.genre_group
    scores = [
        each.embed_videos(video) @ each.embed_music(music, group).T for each in (plain, rotated)
    ]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-4)
    assert not np.allclose(plain.embed_videos(video), rotated.embed_videos(video), atol=1e-2)


def test_another_account_can_read_every_file_of_a_release(published, tmp_path: Path) -> None:
    """Fault 38: weights and alignment had mode 0600 under any umask."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path in published.store.fetch(f"releases/{published.run_id}").rglob("*"):
        assert mode(path) == mode(tmp_path / ("folder" if path.is_dir() else "file")), path


def test_equal_towers_give_equal_bytes(published, tmp_path: Path) -> None:
    towers = load_towers(published.store.fetch(f"releases/{published.run_id}"))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_towers(towers, tmp_path / name)
    for name in (VIDEO_TOWER, MUSIC_TOWER, ALIGNMENT):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_missing_towers_are_a_release_error(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="cannot read the towers"):
        load_towers(tmp_path)
