"""Checksums of a folder, and files that are written atomically."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pipeline.errors import ProvenanceError
from pipeline.storage.folder import (
    CHECKSUMS,
    sha256_of,
    verify_checksums,
    write_atomically,
    write_checksums,
)
from tests.helpers.umask import mode, umask


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A complete folder with one file."""
    made = tmp_path / "a"
    (made / "deep").mkdir(parents=True)
    (made / "deep" / "file").write_text("x")
    write_checksums(made)
    return made


def test_a_folder_that_was_not_changed_passes(folder: Path) -> None:
    verify_checksums(folder)
    assert sha256_of(folder / "deep" / "file") == hashlib.sha256(b"x").hexdigest()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("change", r"differs from its checksum .*a/deep/file"),
        ("add", r"has no checksum .*a/new"),
        ("remove", r"is missing .*a/deep/file"),
        ("checksums", rf"cannot be read: .*a/{CHECKSUMS}"),
    ],
)
def test_every_change_is_found_and_named(folder: Path, change: str, message: str) -> None:
    if change == "change":
        (folder / "deep" / "file").write_text("y")
    elif change == "add":
        (folder / "new").touch()
    elif change == "remove":
        (folder / "deep" / "file").unlink()
    else:
        (folder / CHECKSUMS).write_text("{")
    with pytest.raises(ProvenanceError, match=message):
        verify_checksums(folder)


def test_a_message_about_a_copy_names_the_original(folder: Path) -> None:
    (folder / "new").touch()
    with pytest.raises(ProvenanceError, match=r"\(runs/a/new\)"):
        verify_checksums(folder, shown="runs/a")


def test_an_atomic_write_replaces_the_file_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "pointer"
    write_atomically(path, "one")
    write_atomically(path, "two")
    assert path.read_text() == "two"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_the_mode_of_a_file_follows_the_umask(tmp_path: Path, mask: int) -> None:
    """Fault 38: not 0600 as from tempfile, and never wider than the umask."""
    with umask(mask):
        write_atomically(tmp_path / "a", "text")
    assert mode(tmp_path / "a") == 0o666 & ~mask
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
