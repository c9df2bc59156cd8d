"""How things stand, on one screen."""

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
from pipeline.reporting import status, summary
from pipeline.reporting.status import Status, place_text, quarantine_text, status_text
from pipeline.settings.load import load_settings
from pipeline.training import gate

NOW = dt.datetime(2026, 3, 5, 12, tzinfo=dt.UTC)
DAY = dt.date(2026, 3, 3)
NOTHING = Status(None, None, None, {}, None, None, None, {})


def test_an_empty_lake_says_so(tmp_path: Any) -> None:
    text = status_text(NOTHING, [], NOW)
    assert "newest ingested   none" in text
    assert text.count("none yet") == 2
    assert text.endswith("DAG runs under way\n  none")


def test_it_shows_release_decision_quarantine_and_runs(published: Any) -> None:
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


def test_the_rejects_of_a_day_are_listed_and_cannot_move_the_cursor(toy: Any) -> None:
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


def test_a_day_without_rejects_says_which_kind_it_is(toy: Any) -> None:
    assert quarantine_text(toy.lake, DAY) == "2026-03-03 has not been ingested"
    day = {"dt": DAY, "fingerprint": "f", "rows": 3, "accepted": 3, "rejected": 0}
    landed = TABLES["landing_days"].frame([day | {"finished_at": NOW}])
    toy.lake.replace("landing_days", landed, {"dt": DAY})
    assert quarantine_text(toy.lake, DAY) == "no row of 2026-03-03 was rejected"


def test_days_that_were_refused_or_never_completed_are_named(toy: Any, tmp_path: Path) -> None:
    error = ManifestError("cannot be read: \x1b[2Jnoise", where="/landing/dt=2026-03-03/videos.csv")
    record_refused_day(toy.lake, DAY, "f", "ingest", error)
    landing = toy.settings.landing.model_copy(update={"root": tmp_path / "landing"})
    settings = toy.settings.model_copy(update={"landing": landing})
    for number in range(1, 9):
        (tmp_path / "landing" / f"dt=2026-03-0{number}").mkdir(parents=True)
    (tmp_path / "landing" / "dt=2026-03-02" / "_SUCCESS").touch()
    now = dt.datetime.now(dt.UTC)
    found = replace(status.read(Context(settings), NOW), refused=())
    # Today, 2026-03-05, may still come.
    days = "2026-03-01, 2026-03-03, 2026-03-04"
    assert f"  without _SUCCESS  {days}\n" in status_text(found, [], NOW)
    lines = status_text(status.read(Context(settings), now), [], now).splitlines()
    many = "2026-03-04, 2026-03-05, 2026-03-06, 2026-03-07, 2026-03-08 and 2 earlier"
    assert f"  without _SUCCESS  {many}" in lines
    at = lines.index("Days refused (docs/operate.md: When a day is refused)")
    assert lines[at + 1] == "  2026-03-03  ingest: ManifestError (0 min ago)"
    told = "/landing/dt=2026-03-03/videos.csv: cannot be read: ?[2Jnoise"
    assert lines[at + 2] == f"    {told}"
    refused = f"2026-03-03 was refused by ingest: ManifestError: {told}"
    assert quarantine_text(toy.lake, DAY) == refused
    later = now + dt.timedelta(days=15)
    assert "Days refused" not in status_text(status.read(Context(settings), later), [], later)


def test_a_landing_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    text = status_text(replace(NOTHING, waiting="/landing: Permission denied. Mend it."), [], NOW)
    assert "  /landing: Permission denied. Mend it.\n" in text


def test_it_says_which_lake_it_looked_at_and_who_named_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = place_text(load_settings())
    assert f"  {tmp_path}/lake: nothing is there yet\n" in text
    assert "$DEBCM_CONFIG is not set, and there is no debcm.toml here" in text
    (tmp_path / "debcm.toml").write_text("")
    (tmp_path / "lake" / "tables").mkdir(parents=True)
    assert place_text(load_settings()).splitlines()[1:] == [
        f"  {tmp_path}/lake",
        f"  settings of {tmp_path}/debcm.toml",
    ]


def test_failed_runs_stand_below_those_under_way() -> None:
    ended = NOW - dt.timedelta(hours=2)
    failed = DagRunState("media_features", "r", "2026-03-04", "failed", ended, ("ingest",))
    # Of a database whose clock is ahead.
    queued = DagRunState("debcm_retrain", "r", "2026-03-04", "queued", NOW + dt.timedelta(0, 1))
    running = DagRunState("lake_upkeep", "r", "", "running", NOW - dt.timedelta(minutes=119))
    lines = status_text(NOTHING, [failed, queued, running], NOW).splitlines()
    assert lines[-5:-2] == [
        "DAG runs under way",
        "  debcm_retrain    2026-03-04  queued    (0 min ago)",
        "  lake_upkeep                  running   (119 min ago)",
    ]
    assert lines[-2].startswith("DAG runs that failed, 3 days")
    assert lines[-1] == "  media_features   2026-03-04  ingest (2.0 hours ago)"


def test_a_refusal_names_the_rules_it_broke(toy: Any) -> None:
    from pipeline.training import evaluate

    strict = toy.settings.gate.model_copy(update={"min_test_rows": 10_000})
    settings = toy.settings.model_copy(update={"gate": strict})
    evaluate.run(Context(settings), toy.run_id)
    gate.decide(Context(settings), toy.run_id)
    text = status_text(status.read(Context(settings), NOW), [], NOW)
    assert f"  refuse {toy.run_id}" in text
    assert "  enough_rows: " in text
    assert "Release\n  none yet" in text
    screen = summary.text(Context(settings), toy.run_id)
    assert "NO  enough_rows: " in screen
    assert "none yet: nothing was published" in screen


def test_the_summary_of_a_run_holds_what_its_metrics_say(published: Any) -> None:
    from pipeline.training.evaluate import load_metrics

    screen = summary.text(Context(published.settings), published.run_id)
    figures = load_metrics(published.store, published.run_id)["contenders"]
    (line,) = [line for line in screen.splitlines() if line.startswith("  challenger")]
    low, high = figures["challenger"]["intervals"]["recall@10"]
    expected = [f"{figures['challenger']['recall@10']:.3f}", f"{low:.3f}", "to", f"{high:.3f}"]
    assert line.split()[1:5] == expected
    assert f"releases/{published.run_id}" in screen
    assert screen.count("  1. Title ") == 3
