"""Folders appear whole or not at all, and say when they were changed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.errors import LakeUnavailableError, ProvenanceError
from pipeline.settings.load import Settings
from pipeline.settings.sections import LakeSettings
from pipeline.storage.folder import CHECKSUMS, verify_checksums, write_atomically
from pipeline.storage.presence import create_lake
from pipeline.storage.store import Store


def put(store: Store, name: str, text: str = "x") -> None:
    with store.writing(name) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text(text)


def test_folder_is_there_once_it_is_whole(store: Store) -> None:
    with store.writing("runs/a") as folder:
        (folder / "file").write_text("x")
        assert not store.exists("runs/a")
        assert store.names("runs") == []
    assert store.names("runs") == ["a"]
    assert (store.fetch("runs/a") / "file").read_text() == "x"


def test_failed_writer_leaves_nothing(store: Store) -> None:
    def fail() -> None:
        with store.writing("runs/a") as folder:
            (folder / "file").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not store.exists("runs/a")
    assert not list(Path(store.root).rglob("file"))


def test_first_of_two_writers_stays(store: Store) -> None:
    with store.writing("runs/a") as folder:
        (folder / "file").write_text("second")
        put(store, "runs/a", "first")
    assert (store.fetch("runs/a") / "deep" / "file").read_text() == "first"


def test_missing_folder_is_an_error(store: Store) -> None:
    put(store, "runs/b")
    with pytest.raises(ProvenanceError, match="runs/a"):
        store.fetch("runs/a")


def test_missing_lake_may_come_back(store: Store) -> None:
    with pytest.raises(LakeUnavailableError, match="no such lake"):
        store.fetch("runs/a")


def test_changed_file_is_named_when_it_is_fetched(store: Store, settings: Settings) -> None:
    put(store, "runs/a")
    file = store.fetch("runs/a") / "deep" / "file"
    file.write_text("y")
    with pytest.raises(ProvenanceError, match=str(file)):
        Store(settings.lake).fetch("runs/a")


def test_removed_folder_is_gone(store: Store) -> None:
    put(store, "runs/a")
    store.remove("runs/a")
    store.remove("runs/a")
    assert not store.exists("runs/a")


@pytest.mark.parametrize("change", ["change", "add", "remove", "manifest"])
def test_manifest_finds_every_change(store: Store, change: str) -> None:
    put(store, "runs/a")
    folder = store.fetch("runs/a")
    verify_checksums(folder)
    if change == "change":
        (folder / "deep" / "file").write_text("y")
    elif change == "add":
        (folder / "new").touch()
    elif change == "remove":
        (folder / "deep" / "file").unlink()
    else:
        (folder / CHECKSUMS).write_text("{")
    with pytest.raises(ProvenanceError, match=r"runs/a"):
        verify_checksums(folder)


def test_sweep_takes_what_killed_writers_left_and_nothing_young(store: Store) -> None:
    put(store, "runs/a")
    left = Path(store.root) / "runs" / ".aside-b-xyz"
    left.mkdir()
    assert store.sweep(older_than=time.time() - 60) == []
    os.utime(left, (1, 1))
    assert store.sweep(older_than=time.time() - 60) == ["runs/.aside-b-xyz"]
    assert store.names("runs") == ["a"]
    assert not left.exists()


def test_sweep_takes_what_a_killed_begin_left_beside_the_lake(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(store.root)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            create_lake(store.root, seen_before=False)
    (left,) = root.parent.glob("*.aside-*")
    put(store, "runs/a")
    of_others = [
        root.with_name(f"{root.name}{name}") for name in (".aside-x", "2.aside-" + "0" * 32)
    ]
    for folder in of_others:
        folder.mkdir()
        os.utime(folder, (1, 1))
    assert store.sweep(older_than=time.time() - 60) == []
    os.utime(left, (1, 1))
    assert store.sweep(older_than=time.time() - 60) == [f"../{left.name}"]
    assert not left.exists()
    assert all(folder.is_dir() for folder in of_others)


def test_sweep_takes_what_the_tables_storage_had_staged(store: Store) -> None:
    log = Path(store.root) / "tables" / "videos" / "_delta_log"
    log.mkdir(parents=True)
    staged = [log / "00000000000000000003.json#1", log / "_commit_0f2a.json.tmp"]
    for path in (*staged, log / "00000000000000000002.json"):
        path.touch()
        os.utime(path, (1, 1))
    swept = store.sweep(older_than=time.time() - 60)
    assert sorted(swept) == sorted(str(path.relative_to(store.root)) for path in staged)
    assert [path.name for path in log.iterdir()] == ["00000000000000000002.json"]


def test_atomic_write_replaces_whole_and_leaves_no_file_aside(tmp_path: Path) -> None:
    path = tmp_path / "pointer"
    write_atomically(path, "one")
    write_atomically(path, "two")
    assert path.read_text() == "two"
    assert list(tmp_path.iterdir()) == [path]


def test_a_store_that_began_the_lake_begins_no_second_one(tmp_path: Path) -> None:
    store = Store(LakeSettings(root=str(tmp_path / "lake")))
    put(store, "runs/a")
    (tmp_path / "lake").rename(tmp_path / "gone")
    with pytest.raises(LakeUnavailableError, match="was there a moment ago"):
        put(store, "runs/b")
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize("use", [lambda store: put(store, "runs/b"), lambda s: s.scratch("runs/b")])
def test_a_lake_that_goes_away_in_between_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Callable[[Store], object]
) -> None:
    """It stood when it was looked for, and is gone when the folder is made."""
    store = Store(LakeSettings(root=str(tmp_path / "lake")))
    put(store, "runs/a")
    (tmp_path / "lake").rename(tmp_path / "gone")
    monkeypatch.setattr("pipeline.storage.store.create_lake", lambda *_, **__: None)
    with pytest.raises(LakeUnavailableError):
        use(store)
    assert not (tmp_path / "lake").exists()


def test_of_many_that_begin_a_lake_at_once_each_finds_one(tmp_path: Path) -> None:
    """Each of many roots is begun by several threads that were held back together."""

    def start(root: str, together: threading.Barrier) -> None:
        together.wait()
        create_lake(root, seen_before=False)

    with ThreadPoolExecutor(4) as pool:
        for number in range(200):
            root, together = str(tmp_path / f"lake{number}"), threading.Barrier(4)
            list(pool.map(start, [root] * 4, [together] * 4))
            assert [path.name for path in Path(root).iterdir()] == ["tables"]
    assert len(list(tmp_path.iterdir())) == 200


def test_a_missing_folder_above_the_lake_is_named(tmp_path: Path) -> None:
    with pytest.raises(LakeUnavailableError, match=f"mkdir -p {tmp_path}/disk"):
        create_lake(str(tmp_path / "disk" / "lake"), seen_before=False)
    assert not (tmp_path / "disk").exists()
