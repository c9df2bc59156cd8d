"""Which landing days `debcm run` processes and which it skips."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from pipeline.cli.select_days import LandingFolderError, choose_days
from pipeline.errors import LandingAccessError

TODAY = dt.date(2026, 3, 10)


def deliver(root: Path, name: str, *, complete: bool = True) -> None:
    (root / name).mkdir(parents=True)
    if complete:
        (root / name / "_SUCCESS").touch()


def test_complete_days_are_selected_in_order_and_the_others_skipped(tmp_path: Path) -> None:
    for name in ("dt=2026-03-02", "dt=2026-03-01", "dt=2026-03-11", "dt=20260303", "dt=2026-02-30"):
        deliver(tmp_path, name)
    deliver(tmp_path, "dt=2026-03-04", complete=False)
    deliver(tmp_path, "export")
    (tmp_path / "dt=2026-03-05").touch()
    (tmp_path / ".DS_Store").touch()
    days, skipped = choose_days(tmp_path, today=TODAY)
    assert days == [dt.date(2026, 3, 1), dt.date(2026, 3, 2)]
    assert dict(skipped) == {
        "dt=2026-02-30": "not a folder dt=YYYY-MM-DD",
        "dt=2026-03-04": "incomplete: no _SUCCESS file yet",
        "dt=2026-03-05": "not a folder dt=YYYY-MM-DD",
        "dt=2026-03-11": "in the future; use --day to process it",
        "dt=20260303": "not a folder dt=YYYY-MM-DD",
        "export": "not a folder dt=YYYY-MM-DD",
    }


def test_wanted_days_are_selected_whether_complete_or_not(tmp_path: Path) -> None:
    later, earlier = dt.date(2026, 3, 11), dt.date(2026, 3, 4)
    assert choose_days(tmp_path, [later, earlier, later], TODAY) == ([earlier, later], [])


def test_a_folder_without_a_complete_day_is_an_error_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(LandingFolderError, match="no such folder"):
        choose_days(tmp_path / "nowhere")
    with pytest.raises(LandingFolderError, match="the folder is empty"):
        choose_days(tmp_path)
    deliver(tmp_path, "dt=2026-03-04", complete=False)
    with pytest.raises(LandingFolderError, match="dt=2026-03-04: incomplete"):
        choose_days(tmp_path)


@pytest.mark.parametrize("others", [True, False])
def test_an_unreadable_day_is_not_said_to_be_incomplete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: bool
) -> None:
    """Fault 8: the folder needs another mode, not another delivery."""
    deliver(tmp_path, "dt=2026-03-01")
    if others:
        deliver(tmp_path, "dt=2026-03-02")
    is_file = Path.is_file

    def denied(path: Path) -> bool:  # the tests may run as root
        if "dt=2026-03-01" in str(path):
            raise PermissionError(13, "Permission denied")
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", denied)
    if others:
        days, ((name, why),) = choose_days(tmp_path, today=TODAY)
        assert days == [dt.date(2026, 3, 2)]
        assert name == "dt=2026-03-01"
        assert "Reading is not permitted" in why
        assert LandingAccessError.remedy in why
    else:
        with pytest.raises(LandingAccessError, match="dt=2026-03-01"):
            choose_days(tmp_path, today=TODAY)


def test_a_landing_folder_behind_an_unreadable_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", denied)
    with pytest.raises(LandingAccessError, match=str(tmp_path)):
        choose_days(tmp_path)
