"""A release with an erased item is replaced by a revision without it."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from pipeline.context import Context
from pipeline.errors import ProvenanceError
from pipeline.releases import files
from pipeline.releases.current import read_current
from pipeline.releases.serving import Release
from pipeline.releases.verify import verify_folder
from pipeline.storage.folder import CHECKSUMS
from pipeline.upkeep import erasure
from pipeline.upkeep.erasure_search import find_traces


def test_the_current_release_answers_without_the_erased_items_at_once(published) -> None:
    toy = published
    first = Release.open(toy.settings.lake.root)
    best = first.recommend_known("v0000", top=4)
    toy.request_deletions("music", best[0].music_id)
    toy.request_deletions("video", "v0001")
    summary = erasure.run(Context(toy.settings))
    assert summary.releases == (f"{toy.run_id}.1",)
    second = Release.open(toy.settings.lake.root)
    assert second.release_id == f"{toy.run_id}.1"
    hits = second.recommend_known("v0000", top=3)
    assert [hit.music_id for hit in hits] == [hit.music_id for hit in best[1:]]
    assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in best[1:]])
    with pytest.raises(Exception, match="no video 'v0001'"):
        second.recommend_known("v0001")
    assert second.info.music == 119
    assert second.info.videos == 899
    assert verify_folder(second.folder).queries == 32
    assert toy.store.names("releases") == [f"{toy.run_id}.1"]
    # The towers of the model are unchanged.
    assert second.info.run_id == toy.run_id


def test_every_kept_release_is_replaced_in_the_history(published, next_run, publishing) -> None:
    from pipeline.publishing.history import rollback

    toy = published
    run_id = next_run(toy)
    publishing(toy, run_id)
    toy.request_deletions("video", "v0003")
    erasure.run(Context(toy.settings))
    assert toy.store.names("releases") == [f"{toy.run_id}.1", f"{run_id}.1"]
    assert read_current(toy.store).release_id == f"{run_id}.1"
    toy.request_deletions("video", "v0004")
    erasure.run(Context(toy.settings))
    assert rollback(toy.settings, toy.store) == f"{toy.run_id}.2"
    assert Release.open(toy.settings.lake.root).info.videos == 898


@pytest.mark.parametrize("file", [files.VIDEO, CHECKSUMS])
def test_the_error_about_a_damaged_release_comes_after_all_other_erasures(
    published, next_run, publishing, file: str
) -> None:
    toy = published
    run_id = next_run(toy)
    publishing(toy, run_id)
    root = Path(toy.settings.lake.root)
    damaged = root / "releases" / toy.run_id / file
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-1])
    if file == CHECKSUMS:
        damaged.unlink()
    toy.request_deletions("video", "v0003")
    for _ in range(2):
        with pytest.raises(ProvenanceError, match=f"releases/{toy.run_id}"):
            erasure.run(Context(toy.settings))
    assert read_current(toy.store).release_id == f"{run_id}.1"
    toy.remove_old_versions()
    left = find_traces(toy.lake, toy.store, "v0003")
    assert {Path(f.file).parts[1] for f in left} == {toy.run_id}
    assert {f.what for f in left} == ({"unknown"} if file == files.VIDEO else {"id"})
    # After it is restored from a copy, it is replaced like the others.
    damaged.write_bytes(whole)
    erasure.run(Context(toy.settings))
    assert toy.store.names("releases") == [f"{toy.run_id}.1", f"{run_id}.1"]
    assert find_traces(toy.lake, toy.store, "v0003") == []


def test_publish_leaves_out_items_requested_after_the_dataset_was_made(toy, publishing) -> None:
    toy.request_deletions("video", "v0003")
    toy.request_deletions("uploader", "u05")
    publishing(toy, toy.run_id)
    names = pl.read_parquet(toy.store.fetch(f"releases/{toy.run_id}") / files.VIDEO)["video_id"]
    uploaders = toy.lake.read("videos").filter(uploader_id="u05")["video_id"].to_list()
    assert not set(names) & {"v0003", *uploaders}
    assert len(names) == 900 - len({"v0003", *uploaders})
    assert erasure.run(Context(toy.settings)).releases == ()


def test_a_release_without_tracks_recommends_nothing(published) -> None:
    toy = published
    toy.request_deletions("music", *toy.lake.read("music")["music_id"])
    erasure.run(Context(toy.settings))
    release = Release.open(toy.settings.lake.root)
    assert release.recommend_known("v0000") == []
    assert toy.lake.read("videos")["music_id"].null_count() == 960
