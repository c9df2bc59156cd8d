"""The ground truth of a rendered world."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simulation.render import RenderedWorld
from simulation.truth import Truth, load_truth, save_truth
from tests.helpers.rendered_world import TINY


def test_truth_lists_the_tracks_of_highest_affinity(tiny: RenderedWorld, truth: Truth) -> None:
    _, affinity = load_truth(tiny.truth)
    assert affinity.shape == (TINY.n_videos, TINY.n_music)
    for row, clip in enumerate(truth.videos):
        assert clip.best[0] == truth.music[int(affinity[row].argmax())].music_id
        assert clip.picked in {track.music_id for track in truth.music}
    for shares in truth.preferences.values():
        assert sum(shares) == pytest.approx(1.0)
        assert len(shares) == len(truth.groups)
    assert not (tiny.folder / "truth").exists()


def test_truth_is_read_as_it_was_written(truth: Truth, tmp_path: Path) -> None:
    affinity = np.arange(12.0).reshape(3, 4)
    save_truth(tmp_path / "new" / "folder", truth, affinity)
    read, matrix = load_truth(tmp_path / "new" / "folder")
    assert read == truth
    np.testing.assert_array_equal(matrix, affinity)


def test_a_folder_without_truth_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_truth(tmp_path)
