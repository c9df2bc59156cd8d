"""Folders appear atomically, and changes of their files are found."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import LakeUnavailableError, ProvenanceError
from pipeline.settings.load import Settings
from pipeline.settings.sections import LakeSettings
from pipeline.storage.presence import create_lake
from pipeline.storage.store import Store
from tests.helpers.umask import mode, umask


def put(store: Store, name: str, text: str = "x") -> None:
    with store.writing(name) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text(text)


def test_a_folder_exists_when_its_writer_has_finished(store: Store) -> None:
    with store.writing("runs/a") as folder:
        (folder / "file").write_text("x")
        assert not store.exists("runs/a")
        assert store.names("runs") == []
    assert store.names("runs") == ["a"]
    assert (store.fetch("runs/a") / "file").read_text() == "x"


def test_a_writer_that_fails_leaves_nothing(store: Store) -> None:
    def fail() -> None:
        with store.writing("runs/a") as folder:
            (folder / "file").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not store.exists("runs/a")
    assert not list(Path(store.root).rglob("file"))


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_the_modes_of_a_folder_follow_the_umask(store: Store, mask: int) -> None:
    """Fault 38: another account can read a release if, and only if, the umask lets it."""
    with umask(mask):
        put(store, "runs/a")
    folder = store.fetch("runs/a")
    assert mode(folder) == mode(folder / "deep") == 0o777 & ~mask
    assert mode(folder / "folder.json") == mode(folder / "deep" / "file") == 0o666 & ~mask


def test_the_folder_of_the_first_of_two_writers_stays(store: Store) -> None:
    with store.writing("runs/a") as folder:
        (folder / "file").write_text("second")
        put(store, "runs/a", "first")
    assert (store.fetch("runs/a") / "deep" / "file").read_text() == "first"


def test_a_missing_folder_is_an_error(store: Store) -> None:
    put(store, "runs/b")
    with pytest.raises(ProvenanceError, match="runs/a"):
        store.fetch("runs/a")


def test_a_missing_lake_is_transient(store: Store) -> None:
    with pytest.raises(LakeUnavailableError, match="There is no lake"):
        store.fetch("runs/a")


def test_a_changed_file_is_named_when_its_folder_is_fetched(
    store: Store, settings: Settings
) -> None:
    put(store, "runs/a")
    file = store.fetch("runs/a") / "deep" / "file"
    file.write_text("y")
    with pytest.raises(ProvenanceError, match=str(file)):
        Store(settings.lake).fetch("runs/a")


def test_a_removed_folder_is_gone_and_can_be_removed_again(store: Store) -> None:
    put(store, "runs/a")
    store.remove("runs/a")
    store.remove("runs/a")
    assert not store.exists("runs/a")


def test_sweep_removes_old_leftovers_of_killed_writers(store: Store) -> None:
    put(store, "runs/a")
    left = Path(store.root) / "runs" / ".aside-b-xyz"
    left.mkdir()
    assert store.sweep(older_than=time.time() - 60) == []
    os.utime(left, (1, 1))
    assert store.sweep(older_than=time.time() - 60) == ["runs/.aside-b-xyz"]
    assert store.names("runs") == ["a"]
    assert not left.exists()


def test_sweep_removes_leftovers_of_a_killed_creation_of_the_lake(
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


def test_sweep_removes_temporary_files_of_the_table_engine(store: Store) -> None:
    log = Path(store.root) / "tables" / "videos" / "_delta_log"
    log.mkdir(parents=True)
    staged = [log / "00000000000000000003.json#1", log / "_commit_0f2a.json.tmp"]
    for path in (*staged, log / "00000000000000000002.json"):
        path.touch()
        os.utime(path, (1, 1))
    swept = store.sweep(older_than=time.time() - 60)
    assert sorted(swept) == sorted(str(path.relative_to(store.root)) for path in staged)
    assert [path.name for path in log.iterdir()] == ["00000000000000000002.json"]


def test_a_store_that_created_the_lake_does_not_create_it_again(tmp_path: Path) -> None:
    store = Store(LakeSettings(root=str(tmp_path / "lake")))
    put(store, "runs/a")
    (tmp_path / "lake").rename(tmp_path / "gone")
    with pytest.raises(LakeUnavailableError, match="disappeared while it was in use"):
        put(store, "runs/b")
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize("use", [lambda store: put(store, "runs/b"), lambda s: s.scratch("runs/b")])
def test_a_lake_that_disappears_after_the_check_is_not_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Callable[[Store], object]
) -> None:
    store = Store(LakeSettings(root=str(tmp_path / "lake")))
    put(store, "runs/a")
    (tmp_path / "lake").rename(tmp_path / "gone")
    monkeypatch.setattr("pipeline.storage.store.create_lake", lambda *_, **__: None)
    with pytest.raises(LakeUnavailableError):
        use(store)
    assert not (tmp_path / "lake").exists()
