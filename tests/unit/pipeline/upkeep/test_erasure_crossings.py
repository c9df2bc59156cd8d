"""Erasure that is killed, or runs at the same time as another step, publication or machine."""

from __future__ import annotations

import datetime as dt
from contextlib import nullcontext
from pathlib import Path

import polars as pl
import pytest

from pipeline.context import Context
from pipeline.errors import ReleaseError
from pipeline.publishing import publish
from pipeline.publishing.history import promote
from pipeline.releases.current import read_current
from pipeline.releases.serving import Release
from pipeline.releases.verify import verify_folder
from pipeline.storage.store import Store
from pipeline.training import dataset
from pipeline.upkeep import erasure
from pipeline.upkeep.erasure_search import find_traces, search_terms

DAY = dt.date(2026, 3, 3)


STEPS = [
    "pipeline.upkeep.erasure._record_erasures",
    "pipeline.upkeep.erase_releases.write_release_files",
    "pipeline.upkeep.erase_releases.replace_release",
    "pipeline.storage.store.Store.remove",
    "pipeline.upkeep.erasure.update_sinks",
    "pipeline.upkeep.erasure._remove_run",
    "pipeline.upkeep.erasure._quarantine_keys",
    "pipeline.lake.tables.Lake.clear_matching",
]


@pytest.mark.parametrize("step", STEPS)
def test_a_repeated_erasure_completes_one_that_was_killed_at_any_step(
    published, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = published
    for kind, name in (("uploader", "u05"), ("music", "m007")):
        toy.request_deletions(kind, name)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(step, stop)
        with pytest.raises(KeyboardInterrupt):
            erasure.run(Context(toy.settings))
    release = Release.open(toy.settings.lake.root)
    verify_folder(release.folder)
    erasure.run(Context(toy.settings))
    toy.remove_old_versions()
    assert find_traces(toy.lake, toy.store, "u05") == []
    assert find_traces(toy.lake, toy.store, "m007") == []
    assert search_terms(toy.lake, "u05").items
    assert toy.store.names("releases") == [f"{toy.run_id}.1"]
    assert Release.open(toy.settings.lake.root).release_id == f"{toy.run_id}.1"


@pytest.mark.parametrize("at", [1, 2])
def test_a_concurrent_erasure_on_another_machine_is_no_error(
    published, monkeypatch, at: int
) -> None:
    """The other machine removes a folder that this one has just listed."""
    toy = published
    toy.request_deletions("video", "v0003")
    fetch, calls = Store.fetch, []

    def overtaken(store: Store, name: str) -> Path:
        calls.append(name)
        if len(calls) == at:
            assert erasure.run(Context(toy.settings)).requests == 1
        return fetch(store, name)

    monkeypatch.setattr(Store, "fetch", overtaken)
    monkeypatch.setattr(erasure, "locked", lambda _: nullcontext())
    erasure.run(Context(toy.settings))
    assert len(calls) > at
    monkeypatch.undo()
    assert toy.store.names("releases") == [f"{toy.run_id}.1"]
    assert toy.store.children("runs") == []
    toy.remove_old_versions()
    assert find_traces(toy.lake, toy.store, "v0003") == []


def test_data_written_by_a_step_during_the_erasure_is_erased_next_time(published) -> None:
    """Extraction, dataset, training and report ran while the item was erased."""
    toy = published
    before = toy.all_rows()
    content = before["videos"].filter(video_id="v0003")["content_hash"][0]
    toy.request_deletions("video", "v0003")
    erasure.run(Context(toy.settings))
    features = before["visual_features"].filter(content_hash=content)
    toy.lake.add("visual_features", features)
    with toy.store.writing(f"runs/{toy.run_id}/teacher") as folder:
        (folder / "model").touch()
    late = dataset.build(Context(toy.settings), DAY).run_id
    for name, text in ((late, "v0003"), ("2026-01-01-gone", "fine")):
        with toy.store.writing(f"reports/{name}") as folder:
            (folder / "report.html").write_text(f"<p>rejected: media/{text}.mp4")
    assert find_traces(toy.lake, toy.store, "v0003")
    summary = erasure.run(Context(toy.settings))
    assert summary.runs == (toy.run_id,)
    assert toy.store.children("reports") == []
    toy.remove_old_versions()
    assert find_traces(toy.lake, toy.store, "v0003") == []
    # If another id delivers the same file, its features are kept.
    twin = before["videos"].filter(video_id="v0003").with_columns(video_id=pl.lit("theirs"))
    toy.lake.upsert("videos", twin)
    toy.lake.add("visual_features", features)
    erasure.run(Context(toy.settings))
    assert len(toy.lake.read("visual_features").filter(content_hash=content)) == len(features)


@pytest.mark.parametrize(
    ("first", "at"), [(True, "open_sinks"), (False, "open_sinks"), (False, "make_current")]
)
def test_an_erasure_before_a_written_release_becomes_current(
    toy, next_run, publishing, monkeypatch: pytest.MonkeyPatch, at: str, first: bool
) -> None:
    run_id = toy.run_id
    if not first:
        publishing(toy, run_id)
        run_id = next_run(toy)
    step = getattr(publish, at)

    def erased_first(*arguments: object) -> object:
        if not toy.lake.version("deletions") >= 0:
            toy.request_deletions("video", "v0003")
            erasure.run(Context(toy.settings))
        return step(*arguments)

    monkeypatch.setattr(publish, at, erased_first)
    publishing(toy, run_id)
    erasure.run(Context(toy.settings))
    assert read_current(toy.store).release_id == f"{run_id}.1"
    assert Release.open(toy.settings.lake.root).info.videos == 899
    toy.remove_old_versions()
    assert find_traces(toy.lake, toy.store, "v0003") == []


def test_a_release_that_an_erasure_replaces_during_its_promotion_is_not_promoted(
    published, next_run, publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = published
    run_id = next_run(toy)
    publishing(toy, run_id)
    toy.request_deletions("video", "v0003")

    def erased_meanwhile(_: object) -> None:
        monkeypatch.undo()
        erasure.run(Context(toy.settings))

    monkeypatch.setattr("pipeline.publishing.history.verify_folder", erased_meanwhile)
    with pytest.raises(ReleaseError, match="has removed this release"):
        promote(toy.settings, toy.store, toy.run_id, "by hand")
    assert Release.open(toy.settings.lake.root).release_id == f"{run_id}.1"
    promote(toy.settings, toy.store, f"{toy.run_id}.1", "by hand")
