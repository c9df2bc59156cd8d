"""How things stand, on one screen."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from pipeline.gate import decide
from pipeline.reporting.dag_runs import DagRunState
from pipeline.reporting.status import Status, place_text, quarantine_text, read_status, status_text
from pipeline.reporting.summary import summary
from pipeline.schemas import TABLES
from pipeline.settings import load_settings

NOW = dt.datetime(2026, 3, 5, 12, tzinfo=dt.UTC)
DAY = dt.date(2026, 3, 3)


def test_an_empty_lake_says_so(tmp_path: Any) -> None:
    nothing = Status(None, None, None, {}, None, None, None, {})
    text = status_text(nothing, [], NOW)
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
    text = status_text(read_status(published.lake, published.store), runs, NOW)
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
    nothing = Status(None, None, None, {}, None, None, None, {})
    ended = NOW - dt.timedelta(hours=2)
    failed = DagRunState("media_features", "r", "2026-03-04", "failed", ended, ("ingest",))
    # Of a database whose clock is ahead.
    queued = DagRunState("debcm_retrain", "r", "2026-03-04", "queued", NOW + dt.timedelta(0, 1))
    running = DagRunState("lake_upkeep", "r", "", "running", NOW - dt.timedelta(minutes=119))
    lines = status_text(nothing, [failed, queued, running], NOW).splitlines()
    assert lines[-5:-2] == [
        "DAG runs under way",
        "  debcm_retrain    2026-03-04  queued    (0 min ago)",
        "  lake_upkeep                  running   (119 min ago)",
    ]
    assert lines[-2].startswith("DAG runs that failed, 3 days")
    assert lines[-1] == "  media_features   2026-03-04  ingest (2.0 hours ago)"


def test_a_refusal_names_the_rules_it_broke(toy: Any) -> None:
    from pipeline.evaluate import evaluate

    strict = toy.settings.gate.model_copy(update={"min_test_rows": 10_000})
    settings = toy.settings.model_copy(update={"gate": strict})
    evaluate(settings, toy.store, toy.run_id)
    decide(settings, toy.lake, toy.store, toy.run_id)
    text = status_text(read_status(toy.lake, toy.store), [], NOW)
    assert f"  refuse {toy.run_id}" in text
    assert "  enough_rows: " in text
    assert "Release\n  none yet" in text
    screen = summary(settings, toy.lake, toy.store, toy.run_id)
    assert "NO  enough_rows: " in screen
    assert "none yet: nothing was published" in screen


def test_the_summary_of_a_run_holds_what_its_metrics_say(published: Any) -> None:
    from pipeline.evaluate import load_metrics

    screen = summary(published.settings, published.lake, published.store, published.run_id)
    figures = load_metrics(published.store, published.run_id)["contenders"]
    (line,) = [line for line in screen.splitlines() if line.startswith("  challenger")]
    low, high = figures["challenger"]["intervals"]["recall@10"]
    expected = [f"{figures['challenger']['recall@10']:.3f}", f"{low:.3f}", "to", f"{high:.3f}"]
    assert line.split()[1:5] == expected
    assert f"releases/{published.run_id}" in screen
    assert screen.count("  1. Title ") == 3
