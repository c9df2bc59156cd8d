"""A landing day's folder is only read, and its content is not trusted."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DayNotReadyError, LandingAccessError, LandingUnavailableError
from pipeline.ingestion.landing_day import LandingDay, landing_days

DAY = dt.date(2026, 3, 1)


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, type[OSError], int], None]:
    """Let the system refuse access to files of a folder, which it never does for root."""

    def refuse(folder: Path, kind: type[OSError], number: int) -> None:
        stat = Path.stat

        def refusing_stat(path: Path, **options: Any) -> os.stat_result:
            if folder in path.parents:
                raise kind(number, os.strerror(number), str(path))
            return stat(path, **options)

        monkeypatch.setattr(Path, "stat", refusing_stat)

    return refuse


@given(st.text(max_size=60))
def test_a_resolved_path_stays_in_the_day(text: str) -> None:
    landing = LandingDay(Path("/landing"), DAY)
    path = landing.resolve(text)
    if path is not None:
        assert path.is_relative_to(landing.folder)
        assert ".." not in path.parts


def test_files_and_folders_that_are_not_days_are_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("dt=tomorrow", "dt=2026-02-30", "dt=20260301", "dt=2026-W09-7", "2026-03-02"):
        (tmp_path / name).mkdir()
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "dt=2026-03-03").touch()
    (tmp_path / "dt=2026-03-04").symlink_to(tmp_path / "dt=2026-03-04")
    (tmp_path / f"dt={DAY}").mkdir()
    assert landing_days(tmp_path) == [DAY]
    for name in ("dt=tomorrow", "dt=2026-02-30", "dt=20260301", "dt=2026-03-03"):
        assert f"ignoring {tmp_path}/{name}: a landing day is" in caplog.text


def test_a_missing_landing_folder_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert landing_days(tmp_path / "gone") == []
    assert f"landing folder {tmp_path}/gone does not exist" in caplog.text


@pytest.mark.parametrize(
    ("error", "number", "ours"),
    [
        (PermissionError, 13, LandingAccessError),
        (OSError, 5, LandingUnavailableError),
    ],
)
def test_a_folder_that_the_system_refuses_is_named(
    tmp_path: Path,
    refusing: Callable[..., None],
    error: type[OSError],
    number: int,
    ours: type[Exception],
) -> None:
    landing = LandingDay(tmp_path, DAY)
    landing.folder.mkdir()
    (landing.folder / "music.csv").touch()
    before = landing.fingerprint("")
    refusing(landing.folder, error, number)
    assert not landing.is_complete
    with pytest.raises(ours, match=str(landing.folder)):
        landing.require_success()
    with pytest.raises(ours, match=str(landing.folder)):
        landing.manifest("music")
    # When the folder can be read again, the fingerprint changes.
    assert landing.fingerprint("") != before
    assert landing.resolve("media/red.mp4") == landing.folder / "media" / "red.mp4"


def test_a_folder_named_success_does_not_complete_the_day(tmp_path: Path) -> None:
    landing = LandingDay(tmp_path, DAY)
    (landing.folder / "_SUCCESS").mkdir(parents=True)
    with pytest.raises(DayNotReadyError, match="_SUCCESS"):
        landing.require_success()


def test_a_name_that_is_too_long_is_resolved_and_fails_later(tmp_path: Path) -> None:
    landing = LandingDay(tmp_path, DAY)
    landing.folder.mkdir()
    assert landing.resolve("x" * 300) == landing.folder / ("x" * 300)


def test_the_fingerprint_covers_names_of_any_bytes_modes_and_manifests(tmp_path: Path) -> None:
    landing = LandingDay(tmp_path, DAY)
    landing.folder.mkdir()
    seen = [landing.fingerprint("")]
    manifest = landing.folder / "videos.csv"
    changes: list[Callable[[], Any]] = [
        lambda: Path(os.fsdecode(bytes(landing.folder) + b"/caf\xe9.mp4")).touch(),
        lambda: manifest.write_text("a"),
        lambda: (manifest.write_text("b"), os.utime(manifest, (1, 1))),
        lambda: (manifest.write_text("c"), os.utime(manifest, (1, 1))),
        lambda: manifest.chmod(0o600),
        lambda: manifest.unlink(),
    ]
    for change in changes:
        change()
        seen.append(landing.fingerprint(""))
    assert len(set(seen[:-1])) == len(seen) - 1
    assert landing.fingerprint("") == seen[-1]


def test_only_the_time_of_media_changes_the_fingerprint(tmp_path: Path) -> None:
    """Fault 23."""
    landing = LandingDay(tmp_path, DAY)
    landing.folder.mkdir()
    for name in ("videos.csv", "_SUCCESS", "v1.mp4"):
        (landing.folder / name).write_text("a")
    before = landing.fingerprint("")
    for name in ("videos.csv", "_SUCCESS"):
        os.utime(landing.folder / name, (1, 1))
        assert landing.fingerprint("") == before
    os.utime(landing.folder / "v1.mp4", (1, 1))
    assert landing.fingerprint("") != before


def test_the_fingerprint_does_not_read_media(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    landing = LandingDay(tmp_path, DAY)
    landing.folder.mkdir()
    (landing.folder / "v1.mp4").write_bytes(b"a large file")
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was read"))
    landing.fingerprint("")
