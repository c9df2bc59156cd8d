"""The output of `debcm status` and `debcm quarantine`."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.context import Context
from pipeline.errors import ManifestError
from pipeline.ingestion.refused_days import record_refused_day
from pipeline.lake.schemas import TABLES
from pipeline.orchestration.dag_runs import DagRunState
from pipeline.reporting import status
from pipeline.reporting.status import Status, place_text, quarantine_text, status_text
from pipeline.settings.load import Settings, load_settings
from pipeline.training import gate

NOW = dt.datetime(2026, 3, 5, 12, tzinfo=dt.UTC)
DAY = dt.date(2026, 3, 3)
NOTHING = Status(None, None, None, {}, None, None, None, {})


def test_an_empty_lake_has_nothing_to_show(tmp_path: Any) -> None:
    text = status_text(NOTHING, [], NOW)
    assert "newest ingested   none" in text
    assert text.count("none yet") == 2
    assert "Active DAG runs\n  none\n" in text
    assert text.endswith("Rows per table\n  none")


def test_release_decision_quarantine_and_runs_are_shown(published: Any) -> None:
    day = {"dt": DAY, "fingerprint": "f", "rows": 3, "accepted": 2, "rejected": 1}
    landed = TABLES["landing_days"].frame([day | {"finished_at": NOW}])
    published.lake.replace("landing_days", landed, {"dt": DAY})
    reject = {"kind": "video", "id": "x", "dt": DAY, "step": "ingest", "reason": "missing"}
    rows = TABLES["quarantine"].frame([reject | {"detail": "", "attempts": 0}])
    published.lake.upsert("quarantine", rows)
    since = NOW - dt.timedelta(hours=3)
    runs = [DagRunState("media_features", "r", "2026-03-04", "running", since)]
    text = status_text(status.read(Context(published.settings), NOW), runs, NOW)
    assert "newest ingested   2026-03-03" in text
    assert "newest complete   none" in text
    assert "videos 960" in text
    assert "music 120" in text
    assert f"  {published.run_id}, current since" in text
    assert f"  publish {published.run_id}" in text
    assert "  missing 1" in text
    assert "  media_features   2026-03-04  running   (3.0 hours ago)" in text
    assert len(text.splitlines()) <= 40


def test_days_that_no_night_will_ingest_are_shown(settings: Any, platform: Any) -> None:
    """Fault 19."""
    missed = [dt.date(2025, 1, day) for day in range(1, 8)]
    for day in (*missed, NOW.date() - dt.timedelta(days=1)):
        platform.deliver(day, [], [])
    found = status.read(Context(settings), NOW)
    assert found.missed == tuple(missed)
    lines = status_text(found, [], NOW).splitlines()
    assert "`debcm catch-up` runs them" in lines[0]
    newest = "2025-01-03, 2025-01-04, 2025-01-05, 2025-01-06, 2025-01-07"
    assert lines[1] == f"  {newest} and 2 earlier"


def test_rejected_rows_are_listed_without_control_characters(toy: Any) -> None:
    common = {"kind": "video", "step": "ingest", "attempts": 0}
    rows = [
        common | {"id": "v2", "dt": DAY, "reason": "missing", "detail": "row 7: \x1b[2Jgone\n"},
        common | {"id": "v1", "dt": DAY, "reason": "empty", "detail": "row 3"},
        common | {"id": "v0", "dt": DAY - dt.timedelta(1), "reason": "empty", "detail": ""},
    ]
    toy.lake.upsert("quarantine", TABLES["quarantine"].frame(rows))
    first, second = quarantine_text(toy.lake, DAY).splitlines()
    assert first.split() == ["empty", "video", "v1", "row", "3"]
    assert second == "missing  video  v2  row 7: ?[2Jgone?"


def test_a_day_without_rejected_rows_says_whether_it_was_ingested(toy: Any) -> None:
    assert quarantine_text(toy.lake, DAY) == "2026-03-03 was not ingested yet"
    day = {"dt": DAY, "fingerprint": "f", "rows": 3, "accepted": 3, "rejected": 0}
    landed = TABLES["landing_days"].frame([day | {"finished_at": NOW}])
    toy.lake.replace("landing_days", landed, {"dt": DAY})
    assert quarantine_text(toy.lake, DAY) == "no row of 2026-03-03 was rejected"


def test_refused_and_incomplete_days_are_listed(toy: Any, tmp_path: Path) -> None:
    error = ManifestError("cannot be read: \x1b[2Jnoise", where="/landing/dt=2026-03-03/videos.csv")
    record_refused_day(toy.lake, DAY, "f", "ingest", error)
    landing = toy.settings.landing.model_copy(update={"root": tmp_path / "landing"})
    settings = toy.settings.model_copy(update={"landing": landing})
    for number in range(1, 9):
        (tmp_path / "landing" / f"dt=2026-03-0{number}").mkdir(parents=True)
    (tmp_path / "landing" / "dt=2026-03-02" / "_SUCCESS").touch()
    now = dt.datetime.now(dt.UTC)
    found = replace(status.read(Context(settings), NOW), refused=())
    # Today, 2026-03-05, may still become complete.
    days = "2026-03-01, 2026-03-03, 2026-03-04"
    assert f"  without _SUCCESS  {days}\n" in status_text(found, [], NOW)
    lines = status_text(status.read(Context(settings), now), [], now).splitlines()
    many = "2026-03-04, 2026-03-05, 2026-03-06, 2026-03-07, 2026-03-08 and 2 earlier"
    assert f"  without _SUCCESS  {many}" in lines
    at = lines.index("Refused days (see docs/operate.md: When a day is refused)")
    assert lines[at + 1] == "  2026-03-03  ingest: ManifestError (0 min ago)"
    told = "cannot be read: ?[2Jnoise (/landing/dt=2026-03-03/videos.csv)"
    assert lines[at + 2] == f"    {told}"
    refused = f"2026-03-03 was refused by ingest: ManifestError: {told}"
    assert quarantine_text(toy.lake, DAY) == refused
    later = now + dt.timedelta(days=15)
    assert "Refused days" not in status_text(status.read(Context(settings), later), [], later)


def test_a_landing_folder_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    text = status_text(replace(NOTHING, incomplete="Permission denied (/landing)"), [], NOW)
    assert "  Permission denied (/landing)\n" in text


def test_the_lake_and_the_settings_file_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = place_text(load_settings())
    assert f"  {tmp_path}/lake (does not exist yet)\n" in text
    assert "$DEBCM_CONFIG is not set, and this folder has no debcm.toml" in text
    (tmp_path / "debcm.toml").write_text("")
    (tmp_path / "lake" / "tables").mkdir(parents=True)
    assert place_text(load_settings()).splitlines()[1:] == [
        f"  {tmp_path}/lake",
        f"  settings: {tmp_path}/debcm.toml",
    ]


def test_failed_runs_come_first_and_active_runs_are_listed() -> None:
    ended = NOW - dt.timedelta(hours=2)
    failed = DagRunState("media_features", "r", "2026-03-04", "failed", ended, ("ingest",))
    # The clock of the database is one second ahead.
    queued = DagRunState("debcm_retrain", "r", "2026-03-04", "queued", NOW + dt.timedelta(0, 1))
    running = DagRunState("lake_upkeep", "r", "", "running", NOW - dt.timedelta(minutes=119))
    lines = status_text(NOTHING, [failed, queued, running], NOW).splitlines()
    at = lines.index("Active DAG runs")
    assert lines[at : at + 3] == [
        "Active DAG runs",
        "  debcm_retrain    2026-03-04  queued    (0 min ago)",
        "  lake_upkeep                  running   (119 min ago)",
    ]
    assert lines[0].startswith("Failed DAG runs of the last 3 days")
    assert lines[1] == "  media_features   2026-03-04  ingest (2.0 hours ago)"


def test_a_refused_run_is_shown_with_its_broken_rules(toy: Any) -> None:
    from pipeline.training import evaluate

    strict = toy.settings.gate.model_copy(update={"min_test_rows": 10_000})
    settings = toy.settings.model_copy(update={"gate": strict})
    evaluate.run(Context(settings), toy.run_id)
    gate.decide(Context(settings), toy.run_id)
    text = status_text(status.read(Context(settings), NOW), [], NOW)
    assert f"  refuse {toy.run_id}" in text
    assert "  enough_rows: " in text
    assert "Current release\n  none yet" in text


def test_an_unreadable_day_is_not_listed_as_incomplete(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 8: its folder needs another mode, not another delivery."""
    (settings.landing.root / "dt=2026-03-01").mkdir(parents=True)
    day = dt.date(2026, 3, 2)
    assert status._incomplete_days(settings, day) == (dt.date(2026, 3, 1),)

    def denied(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", denied)
    assert "Reading is not permitted" in status._incomplete_days(settings, day)
