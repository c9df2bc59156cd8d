"""Folders in object storage: files of concurrent writers never mix, and copies are current."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pipeline.errors import DiskFullError, ProvenanceError
from pipeline.settings.sections import LakeSettings
from pipeline.storage import object_folders, object_pointer
from pipeline.storage.filesystem import filesystem
from pipeline.storage.folder import CHECKSUMS, UNFINISHED_PREFIX
from pipeline.storage.object_folders import KEPT_COPIES, ObjectFolders
from pipeline.storage.store import Store

pytestmark = pytest.mark.services

NAME = "releases/a"


def put(store: Store, name: str = NAME, **texts: str) -> None:
    with store.writing(name) as folder:
        (folder / "deep").mkdir()
        for file, text in texts.items():
            (folder / "deep" / file).write_text(text)


def read(store: Store, name: str = NAME) -> dict[str, str]:
    folder = store.fetch(name)
    return {path.name: path.read_text() for path in (folder / "deep").iterdir()}


def again(store: Store) -> Store:
    """Open the same lake as another task does."""
    return Store(LakeSettings(root=store.root, storage_options=store._options))


def elsewhere(store: Store, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Store:
    """Open the same lake as another machine does."""
    with monkeypatch.context() as patch:
        patch.setenv("DEBCM_CACHE", str(cache))
        return again(store)


def objects(store: Store) -> dict[str, str]:
    """Map the path below the root to the text of every object."""
    return {name: stream.read().decode() for name, stream in store.files()}


def copies(store: Store, tmp_path: Path) -> list[str]:
    return sorted(
        path.parent.parent.name for path in tmp_path.glob(f"cache/*/folders/**/{CHECKSUMS}")
    )


def test_files_are_below_the_hash_of_their_checksums(s3: Store) -> None:
    put(s3, x="1")
    found = objects(s3)
    digest = object_folders._sha256(found[f"{NAME}/{CHECKSUMS}"].encode())
    assert set(found) == {f"{NAME}/{CHECKSUMS}", f"{NAME}/{digest}/deep/x"}
    assert read(s3) == {"x": "1"}
    assert s3.names("releases") == ["a"]


@pytest.mark.parametrize("at", ["first file", "last file", "checksums"])
def test_files_of_two_concurrent_writers_never_mix(
    s3: Store, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """The other writer writes its whole folder while this one is at work."""
    mine, other = {"x": "1", "y": "1"}, {"x": "2", "y": "2", "z": "2"}
    upload, replace = ObjectFolders._upload, object_pointer.replace
    met: list[str] = []

    def meet(here: str) -> None:
        if here == at and not met:
            met.append(here)
            put(again(s3), **other)

    def one_by_one(self: ObjectFolders, folder: Path, prefix: str, files: list[str]) -> None:
        for number, file in enumerate(files):
            upload(self, folder, prefix, [file])
            meet("first file" if number == 0 else "last file")

    def pointer(*arguments: object) -> bool:
        meet("checksums")
        return replace(*arguments)

    monkeypatch.setattr(ObjectFolders, "_upload", one_by_one)
    monkeypatch.setattr(object_pointer, "replace", pointer)
    put(s3, **mine)
    assert met
    assert read(again(s3)) == other
    # The second writer removed its own files again.
    assert len(objects(s3)) == 1 + len(other)


def test_a_copy_of_a_replaced_folder_is_not_read(
    s3: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put(s3, x="1")
    assert read(s3) == {"x": "1"}
    other = elsewhere(s3, monkeypatch, tmp_path / "other")
    other.remove(NAME)
    with pytest.raises(ProvenanceError, match="missing or incomplete"):
        s3.fetch(NAME)
    put(other, x="2")
    assert read(s3) == {"x": "2"}
    assert read(again(s3)) == {"x": "2"}


def test_a_damaged_copy_is_downloaded_again_and_a_damaged_object_is_named(s3: Store) -> None:
    put(s3, x="1")
    (s3.fetch(NAME) / "deep" / "x").write_text("?")
    assert read(again(s3)) == {"x": "1"}
    other, base = filesystem(s3.root, s3._options)
    damaged = next(name for name in objects(s3) if name.endswith("/x"))
    with other.open_output_stream(f"{base}/{damaged}") as stream:
        stream.write(b"?")
    (s3.fetch(NAME) / "deep" / "x").write_text("?")
    with pytest.raises(ProvenanceError, match=damaged):
        again(s3).fetch(NAME)
    other.delete_file(f"{base}/{damaged}")
    with pytest.raises(ProvenanceError, match=f"is missing .*{damaged}"):
        again(s3).fetch(NAME)


def test_a_folder_that_is_replaced_during_its_download_is_read_consistently(
    s3: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put(s3, x="1", y="1")
    other = elsewhere(s3, monkeypatch, tmp_path / "other")
    download, calls = ObjectFolders._download_file, []

    def overtaken(self: ObjectFolders, path: str, to: Path) -> None:
        calls.append(path)
        if len(calls) == 2:
            other.remove(NAME)
            put(other, x="2", y="2")
        download(self, path, to)

    monkeypatch.setattr(ObjectFolders, "_download_file", overtaken)
    assert read(s3) == {"x": "2", "y": "2"}


def test_sweep_removes_old_uploads_of_killed_writers(
    s3: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(s3, x="1")
    whole = objects(s3)

    def killed(*_: object) -> bool:
        raise KeyboardInterrupt

    for name in (NAME, "runs/b/teacher"):
        with monkeypatch.context() as patch:
            patch.setattr(object_pointer, "replace", killed)
            with pytest.raises(KeyboardInterrupt):
                put(s3, name, x="2")
    assert s3.names("releases") == ["a"]
    assert s3.sweep(older_than=time.time() - 3600) == []
    assert len(objects(s3)) == len(whole) + 2
    assert len(s3.sweep(older_than=time.time() + 3600)) == 2
    assert objects(s3) == whole
    assert s3.sweep(older_than=time.time() + 3600) == []


def test_files_of_a_retry_that_a_sweep_removed_are_uploaded_again(
    s3: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retry uploads to the prefix of the killed writer: equal files have equal hashes."""
    replace = object_pointer.replace

    def swept(*arguments: object) -> bool:
        assert s3.sweep(older_than=time.time() + 3600)
        return replace(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(object_pointer, "replace", swept)
        put(s3, x="1", y="2")
    assert read(s3) == {"x": "1", "y": "2"}


def test_copies_of_removed_folders_and_old_copies_are_pruned(
    s3: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names = [f"{number:02d}" for number in range(KEPT_COPIES + 3)]
    for name in names:
        put(s3, f"releases/{name}", x=name)
        s3.fetch(f"releases/{name}")
    assert copies(s3, tmp_path) == names, "new ones may be in use"
    # All but the last were not used since yesterday.
    for age, name in enumerate(reversed(names)):
        folder = s3.fetch(f"releases/{name}")
        os.utime(folder, (time.time() - 100_000 * age,) * 2)
    elsewhere(s3, monkeypatch, tmp_path / "other").remove(f"releases/{names[-2]}")
    put(s3, x="1")
    s3.fetch(NAME)
    kept = [name for name in names[-KEPT_COPIES + 1 :] if name != names[-2]]
    assert copies(s3, tmp_path) == sorted([*kept, "a"])


def test_temporary_data_of_a_run_is_removed_with_it_on_every_machine(
    s3: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = elsewhere(s3, monkeypatch, tmp_path / "other")
    for store in (s3, other):
        (store.scratch("runs/b/teacher-checkpoint") / "weights").write_text("x")
    for name in ("runs/b/dataset", NAME):
        put(s3, name, x="1")
    other.fetch("runs/b/dataset")
    s3.remove("runs/b/dataset")
    s3.remove("runs/b")
    assert not list(tmp_path.glob("cache/*/scratch/runs/*"))
    other.fetch(NAME)
    assert not list(tmp_path.glob("other/*/scratch/runs/*"))
    assert not list(tmp_path.glob("other/*/folders/runs/b/dataset/*"))


def test_leftovers_of_killed_writers_and_readers_on_a_machine_are_pruned(
    s3: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        # After kill -9, no code of the process runs any more.
        patch.setattr("pipeline.storage.store.shutil.rmtree", lambda *_, **__: None)
        put(s3, x="1")
        s3.fetch(NAME)
    left = sorted(tmp_path.glob(f"cache/*/folders/**/{UNFINISHED_PREFIX}*"))
    assert left, "on the disk of the copies, not in /tmp"
    s3.sweep(older_than=time.time() - 3600)
    assert all(folder.is_dir() for folder in left), "new ones may be in use"
    for folder in left:
        os.utime(folder, (1, 1))
    s3.sweep(older_than=time.time() - 3600)
    assert not any(folder.exists() for folder in left)
    assert copies(s3, tmp_path) == ["a"]


def test_a_full_disk_under_the_copies_is_named(
    s3: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put(s3, x="1")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipeline.storage.object_folders.shutil.copyfileobj", full)
    with pytest.raises(DiskFullError, match=str(tmp_path / "cache")):
        s3.fetch(NAME)
    assert copies(s3, tmp_path) == []
