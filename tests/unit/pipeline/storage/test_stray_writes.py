"""Files that were written after the lake disappeared are moved aside."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import LakeUnavailableError
from pipeline.storage.stray_writes import set_aside_stray_writes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "lake"
    folder.mkdir()
    return folder


def replaced(root: Path) -> None:
    """Do what the table engine does if the lake disappears during a write."""
    root.rename(root.with_name("unmounted"))
    root.mkdir()
    (root / "part-0.parquet").touch()


def test_a_write_to_the_same_folder_stays(root: Path) -> None:
    with set_aside_stray_writes(str(root)):
        (root / "part-0.parquet").touch()
    assert [path.name for path in root.iterdir()] == ["part-0.parquet"]


def test_a_write_to_a_new_folder_is_moved_aside(root: Path) -> None:
    with (
        pytest.raises(LakeUnavailableError, match=rf"replaced during a commit.*{root}\.stray-"),
        set_aside_stray_writes(str(root)),
    ):
        replaced(root)
    (stray,) = root.parent.glob("lake.stray-*")
    assert [path.name for path in stray.iterdir()] == ["part-0.parquet"]
    assert not root.exists()


def test_a_new_folder_that_cannot_be_moved_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    def replace_by_a_mount() -> None:
        replaced(root)
        monkeypatch.setattr(Path, "rename", busy)

    with (
        pytest.raises(LakeUnavailableError, match=rf"{root} \(Device or resource busy\)"),
        set_aside_stray_writes(str(root)),
    ):
        replace_by_a_mount()
    assert root.is_dir()
