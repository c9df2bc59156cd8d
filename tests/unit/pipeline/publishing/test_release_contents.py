"""A release folder has the items and embeddings of its dataset, without erased items."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from polars.testing import assert_frame_equal

from pipeline.errors import ReleaseError
from pipeline.lake.catalog import id_hash
from pipeline.publishing.release_contents import ReleaseContents, write_release_files
from pipeline.releases.files import read_release_info
from pipeline.releases.towers import load_towers
from pipeline.training.dataset import load_dataset


@pytest.fixture
def folder(published) -> Path:
    return published.store.fetch(f"releases/{published.run_id}")


@pytest.fixture
def contents(folder: Path, published) -> ReleaseContents:
    return ReleaseContents.read(folder, published.run_id)


def test_read_returns_what_was_embedded_and_written(contents, folder, published) -> None:
    dataset = load_dataset(published.store, published.run_id)
    embedded = ReleaseContents.embed(dataset, load_towers(folder))
    assert_frame_equal(contents.music, embedded.music)
    assert_frame_equal(contents.videos, embedded.videos)
    for name in ("adjusted", "unadjusted", "embeddings", "queries"):
        np.testing.assert_array_equal(getattr(contents, name), getattr(embedded, name))


def test_erased_items_are_left_out_and_rows_still_match(contents) -> None:
    video = contents.videos["video_id"][int(contents.queries[1])]
    track = contents.music["music_id"][5]
    left = contents.without({id_hash("video", video), id_hash("music", track)})
    assert (len(left.videos), len(left.music)) == (len(contents.videos) - 1, 119)
    assert video not in left.videos["video_id"].to_list()
    assert track not in left.music["music_id"].to_list()
    np.testing.assert_array_equal(left.adjusted[5], contents.adjusted[6])
    # The known queries are the same videos as before, except for the erased one.
    queries = contents.videos["video_id"].gather(contents.queries).to_list()
    expected = [name for name in queries if name != video]
    assert left.videos["video_id"].gather(left.queries).to_list() == expected
    np.testing.assert_array_equal(left.features, np.delete(contents.features, 1, axis=0))


def test_the_videos_of_an_erased_uploader_are_left_out(contents) -> None:
    uploader = contents.videos["uploader_hash"][0]
    left = contents.without({uploader})
    assert len(left.videos) < len(contents.videos)
    assert uploader not in left.videos["uploader_hash"].to_list()


def test_without_requests_the_contents_are_unchanged(contents) -> None:
    assert contents.without(set()) is contents


def test_an_index_with_too_low_recall_is_refused(
    contents, folder, published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_NEIGHBOURS", 2), ("_EF_CONSTRUCTION", 1), ("_EF_SEARCH", 1)):
        monkeypatch.setattr(f"pipeline.releases.index.{name}", value)
    settings = published.settings.release.model_copy(update={"flat_index_below": 10})
    with pytest.raises(ReleaseError, match="flat_index_below"):
        write_release_files(tmp_path, read_release_info(folder), contents, {}, settings)
