"""An erasure reads only releases and datasets that no erasure of the same requests has read."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.context import Context
from pipeline.storage.store import Store
from pipeline.upkeep import erasure
from pipeline.upkeep.searched_folders import RECORD, SearchedFolders


def test_folders_are_remembered_for_the_same_requests(store: Store) -> None:
    first = SearchedFolders(store, {"a", "b"})
    assert "releases/r1" not in first
    first.add("releases/r1")
    first.add("releases/r2")
    first.save()
    second = SearchedFolders(store, ["b", "a"])
    assert "releases/r1" in second
    second.add("runs/r3")
    second.save()
    # A folder that was not asked for is gone.
    third = SearchedFolders(store, {"a", "b"})
    found = [name in third for name in ("releases/r1", "releases/r2", "runs/r3")]
    assert found == [True, False, True]
    assert "releases/r1" not in SearchedFolders(store, {"a", "b", "c"})


def test_a_damaged_record_is_no_error(store: Store) -> None:
    first = SearchedFolders(store, {"a"})
    first.add("releases/r1")
    first.save()
    (Path(store.root) / RECORD).write_text("{", encoding="utf-8")
    again = SearchedFolders(store, {"a"})
    assert "releases/r1" not in again
    again.add("releases/r1")
    again.save()
    assert "releases/r1" in SearchedFolders(store, {"a"})


def test_of_two_concurrent_erasures_one_writes_the_record(store: Store) -> None:
    first, second = (SearchedFolders(store, {"a"}) for _ in range(2))
    first.add("releases/r1")
    second.add("releases/r2")
    first.save()
    second.save()
    assert "releases/r1" in SearchedFolders(store, {"a"})


def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    fetch = Store.fetch

    def recorded(self: Store, name: str) -> Path:
        names.append(name)
        return fetch(self, name)

    monkeypatch.setattr(Store, "fetch", recorded)
    return names


def test_a_repeated_erasure_reads_only_what_is_new(
    published, next_run, publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = published
    run_id = next_run(toy)
    toy.request_deletions("video", "of nobody")
    names = fetched(monkeypatch)
    erasure.run(Context(toy.settings))
    runs = [f"runs/{name}/dataset" for name in (toy.run_id, run_id)]
    assert sorted(names) == sorted([f"releases/{toy.run_id}", *runs])
    names.clear()
    erasure.run(Context(toy.settings))
    assert names == []
    publishing(toy, run_id)
    names.clear()
    erasure.run(Context(toy.settings))
    assert names == [f"releases/{run_id}"]
    # A new request makes all of them be read once.
    names.clear()
    toy.request_deletions("video", "v0003")
    assert len(erasure.run(Context(toy.settings)).releases) == 2
    assert {f"releases/{name}" for name in (toy.run_id, run_id)} <= set(names)
    names.clear()
    erasure.run(Context(toy.settings))
    assert names == []
