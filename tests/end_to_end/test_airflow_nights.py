"""A real Airflow over three small days: a backfill, a late upload, and a missing day.

One Airflow runs for all tests of the module; they check its results.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from playwright.sync_api import sync_playwright

from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.orchestration.local_airflow import PASSWORDS, environment, free_port, run_airflow
from pipeline.settings.sections import LakeSettings
from tests.helpers.real_airflow import Platform, Receivers, Watched, debcm, small_settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

MISSING_DAY = dt.date(2026, 3, 4)
LATE_DAY = dt.date(2026, 3, 1)
# Columns that differ between runs: times.
TIMES = {"ingested_at", "finished_at", "cpu_seconds", "wall_seconds"}
FEATURES = (
    "videos",
    "music",
    "segments",
    "quarantine",
    "landing_days",
    "feature_days",
    "visual_features",
    "visual_frames",
    "audio_features",
    "mel_frames",
)
RANGE = ["--from-date", "2026-03-01", "--to-date", "2026-03-04T12:00:00"]


@dataclass
class Nights:
    """Results that the tests check.

    Attributes:
        watched: the running Airflow.
        airflow_lake: rows of its lake after the backfill, by table.
        nights_lake: rows of a lake that three nights filled one after the other.
        events: file with the OpenLineage events.
        runs_after_backfill: DAG runs of the retraining after the backfill.
        trained_after_backfill: states of their teacher tasks.
    """

    watched: Watched
    airflow_lake: dict[str, pl.DataFrame]
    nights_lake: dict[str, pl.DataFrame]
    events: Path
    runs_after_backfill: list[dict[str, Any]]
    trained_after_backfill: list[str]


def contents(root: Path) -> dict[str, pl.DataFrame]:
    lake = Lake(LakeSettings(root=str(root)))
    return {
        name: lake.read(name)
        .sort(*TABLES[name].key, *TABLES[name].partition_by)
        .drop(TIMES, strict=False)
        for name in FEATURES
    }


@pytest.fixture(scope="module")
def nights(
    platform: Platform,
    receivers: Receivers,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Nights]:
    home = tmp_path_factory.mktemp("nights")
    one_by_one = small_settings(platform.root, home / "nights")
    for day in ("2026-03-01", "2026-03-02", "2026-03-03"):
        debcm(["ingest", "--day", day], one_by_one)
        debcm(["extract", "--day", day], one_by_one)
    events = home / "events.json"
    variables = small_settings(platform.root, home / "lake") | {
        "DEBCM_ALERTS__WEBHOOK": f"http://127.0.0.1:{receivers.webhook_port}/",
        "DEBCM_LANDING__WAIT_HOURS": "0.03",
        "DEBCM_SCHEDULE__DEADLINE_HOURS": "0.01",
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
        "AIRFLOW__METRICS__STATSD_PORT": str(receivers.statsd_port),
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(
            {"type": "file", "log_file_path": str(events), "append": True}
        ),
        "AIRFLOW__OPENLINEAGE__NAMESPACE": "test",
    }
    env = environment(home=home / "airflow", port=free_port()) | variables
    with Watched.start(env) as seen:
        seen.unpause("media_features", "debcm_retrain")
        done = run_airflow(["backfill", "create", "--dag-id", "media_features", *RANGE], env)
        assert done.returncode == 0, done.stdout + done.stderr
        seen.wait_until(lambda: seen.ended("debcm_retrain", 3), "three retraining runs")
        backfilled = contents(home / "lake")
        retrained = seen.runs("debcm_retrain")
        trained = seen.states("debcm_retrain", "teacher")
        platform.deliver(LATE_DAY, extra=1)
        seen.airflow.trigger("media_features", partition_key="2026-03-03")
        seen.wait_until(lambda: seen.ended("debcm_retrain", 5), "the late day's retraining")
        yield Nights(
            seen,
            backfilled,
            contents(home / "nights"),
            events,
            retrained,
            trained,
        )


def test_a_backfill_gives_the_same_rows_as_nights_in_order(nights: Nights) -> None:
    assert nights.nights_lake["videos"].height == 3 * 7
    assert nights.nights_lake["quarantine"].height == 3
    for name in FEATURES:
        assert nights.airflow_lake[name].equals(nights.nights_lake[name], null_equal=True), name


def test_a_backfill_of_three_days_trains_once(nights: Nights) -> None:
    assert [run["state"] for run in nights.runs_after_backfill] == ["success"] * 3
    assert sorted(nights.trained_after_backfill) == ["skipped", "skipped", "success"]


def test_a_day_with_a_late_upload_is_run_again_and_trained_once(nights: Nights) -> None:
    runs = nights.watched.runs("media_features")
    (late,) = [run for run in runs if run["conf"].get("day") == LATE_DAY.isoformat()]
    assert late["state"] == "success"
    assert late["dag_run_id"].startswith("late__2026-03-01__2026-03-03__")
    trained = nights.watched.states("debcm_retrain", "teacher")
    assert sorted(trained) == ["skipped"] * 3 + ["success"] * 2


def test_a_missing_day_fails_with_its_path_and_blocks_no_other_day(
    nights: Nights, receivers: Receivers, platform: Platform
) -> None:
    alert = receivers.wait_for("media_features.wait_for_day failed", MISSING_DAY.isoformat(), 180)
    assert f"{platform.root}/dt={MISSING_DAY}/_SUCCESS" in alert["what"]
    assert "/dags/media_features/runs/" in alert["where"]
    (waiting,) = [
        run
        for run in nights.watched.runs("media_features")
        if run["partition_key"] == MISSING_DAY.isoformat()
    ]
    (sensor,) = nights.watched.tasks(waiting)["wait_for_day"]
    assert (sensor["state"], sensor["try_number"]) == ("failed", 1)


def test_status_names_the_day_that_failed_and_its_task(
    nights: Nights, receivers: Receivers
) -> None:
    receivers.wait_for("media_features.wait_for_day failed", MISSING_DAY.isoformat(), 180)
    _, rest = debcm(["status"], nights.watched.airflow.env).split("Failed DAG runs")
    failed, _, _ = rest.partition("Current release")
    (line,) = [line for line in failed.splitlines() if MISSING_DAY.isoformat() in line]
    assert line.split()[:3] == ["media_features", MISSING_DAY.isoformat(), "wait_for_day"]
    # A run that the gate refused is not a failure.
    assert "debcm_retrain" not in failed
    assert "2026-03-03" not in failed


def test_a_late_run_raises_an_alert_and_a_backfill_does_not(
    nights: Nights, receivers: Receivers
) -> None:
    late_day = "2026-03-05"
    nights.watched.airflow.trigger("media_features", conf={"day": late_day})
    alert = receivers.wait_for("media_features is late", late_day, 240)
    assert "0.01 hours" in alert["what"]
    late = {message["day"] for message in receivers.posted if "is late" in message["title"]}
    assert MISSING_DAY.isoformat() not in late


def test_failed_and_running_tasks_can_be_cleared(nights: Nights, receivers: Receivers) -> None:
    """Fault 1 of the on-call list: each of these calls answered 500."""
    receivers.wait_for("media_features.wait_for_day failed", MISSING_DAY.isoformat(), 180)
    watched, dag = nights.watched, "/dags/media_features"
    (run,) = [
        run
        for run in watched.runs("media_features")
        if run["partition_key"] == MISSING_DAY.isoformat()
    ]
    run_id, clear = run["dag_run_id"], {"dry_run": False, "only_failed": False}

    def sensor() -> Any:
        return watched.tasks(run)["wait_for_day"][0]

    body = clear | {"dag_run_id": run_id, "task_ids": ["wait_for_day"]}
    watched.airflow.call("POST", f"{dag}/clearTaskInstances", body)
    watched.wait_until(lambda: sensor()["state"] == "deferred", "waiting sensor")
    done = run_airflow(
        ["dags", "clear", "media_features", "--run-id", run_id, "--yes"], watched.airflow.env
    )
    assert done.returncode == 0, done.stdout + done.stderr
    watched.wait_until(lambda: sensor()["state"] == "deferred", "waiting sensor")
    # "Clear run" and "Mark success" in the UI.
    watched.airflow.call("POST", f"{dag}/dagRuns/{run_id}/clear", clear)
    path = f"{dag}/dagRuns/{run_id}/taskInstances/wait_for_day"
    watched.airflow.call("PATCH", path, {"new_state": "success"})


def test_a_refusal_raises_an_alert_with_its_rules_and_is_reported(
    nights: Nights, receivers: Receivers
) -> None:
    alert = receivers.wait_for("the gate refused", "2026-03-0", 5)
    assert "beats_" in alert["what"]
    assert alert["next_step"].startswith("The current release stays")
    states = nights.watched.states("debcm_retrain", "publish")
    assert "success" not in states
    assert (
        sorted(nights.watched.states("debcm_retrain", "report"))
        == ["skipped"] * 3 + ["success"] * 2
    )


def test_metrics_reach_a_statsd_server(nights: Nights, receivers: Receivers) -> None:
    gauges = receivers.gauges
    assert set(gauges["airflow.debcm.rows"]) == {10.0, 11.0}
    assert set(gauges["airflow.debcm.rejects"]) == {1.0}
    assert set(gauges["airflow.debcm.rejects.unsupported_container"]) == {1.0}
    assert set(gauges["airflow.debcm.extracted"]) >= {9.0, 1.0}
    assert all(value > 0 for value in gauges["airflow.debcm.clips_per_second"])
    age = dt.datetime.now(dt.UTC) - dt.datetime(2026, 3, 3, 15, tzinfo=dt.UTC)
    assert gauges["airflow.debcm.lag_hours"][-1] == pytest.approx(
        age.total_seconds() / 3600, abs=0.5
    )
    assert gauges["airflow.debcm.gate.published"] == [0.0, 0.0]
    assert 0 <= gauges["airflow.debcm.recall.challenger"][-1] <= 1


def test_no_log_contains_a_secret(nights: Nights) -> None:
    home = nights.events.parent / "airflow"
    secrets = [
        secret
        for name in ("secrets.json", PASSWORDS)
        for secret in json.loads((home / name).read_text()).values()
    ]
    logs = [path for path in (home / "logs").rglob("*") if path.is_file()]
    assert len(secrets) == 4
    assert logs
    for path in logs:
        text = path.read_text(encoding="utf-8", errors="replace")
        assert not any(secret in text for secret in secrets), path


def test_lineage_names_existing_tables(nights: Nights) -> None:
    lake = nights.events.parent / "lake"
    found: dict[str, tuple[set[str], set[str]]] = {}
    for line in nights.events.read_text().splitlines():
        event = json.loads(line)
        if event.get("eventType") != "COMPLETE":
            continue
        inputs, outputs = found.setdefault(event["job"]["name"], (set(), set()))
        inputs |= {dataset["name"] for dataset in event["inputs"]}
        outputs |= {dataset["name"] for dataset in event["outputs"]}
    tables = f"{lake}/tables/"
    assert {f"{tables}videos", f"{tables}music"} <= found["media_features.ingest"][1]
    assert f"{tables}shards" in found["media_features.extract"][0]
    assert {f"{tables}visual_features", f"{tables}audio_features"} <= found[
        "media_features.extract"
    ][1]
    assert found["debcm_retrain.confounders"][1] == {f"{tables}uploader_genres"}
    named = {name for inputs, outputs in found.values() for name in inputs | outputs}
    missing = [name for name in named if not Path(name).exists()]
    # Nothing was published or deleted, and no clip failed, so these do not exist.
    assert set(missing) <= {f"{lake}/releases", f"{tables}deletions", f"{tables}failures"}


def test_the_ui_shows_runs_and_reports_only_after_login(
    nights: Nights,
) -> None:
    airflow = nights.watched.airflow

    def page(path: str, token: str = "") -> tuple[int, str, str]:
        request = urllib.request.Request(f"{airflow.url}/debcm/{path}")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                policy = answer.headers["Content-Security-Policy"]
                return answer.status, answer.read().decode(), policy
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode(), ""

    airflow.call("GET", "/dags")
    token = airflow.token()
    assert page("")[0] == 401
    status, listed, policy = page("", token)
    assert status == 200
    assert "default-src 'none'" in policy
    run_ids = [name.partition('"')[0] for name in listed.split('href="reports/')[1:]]
    assert len(run_ids) == 2
    assert page(f"reports/{run_ids[0]}")[0] == 401
    status, report, _ = page(f"reports/{run_ids[0]}", token)
    assert status == 200
    assert f"Run {run_ids[0]}" in report
    assert "data:image/jpeg;base64," in report  # thumbnails of real files
    assert page("reports/2026-03-03-0000000000", token)[0] == 404
    assert page("reports/..%2f..%2fruns", token)[0] == 404


def test_the_report_opens_in_a_browser_inside_the_ui(nights: Nights) -> None:
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    if binary is None:
        pytest.skip("no chromium on this machine (Debian: apt install chromium)")
    airflow = nights.watched.airflow
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.goto(airflow.url)
        page.locator("input[name=username]").fill("admin")
        page.locator("input[name=password]").fill(airflow.password())
        page.locator("button[type=submit]").click()
        page.wait_for_url(f"{airflow.url}/")
        page.on(
            "console",
            lambda message: errors.append(message.text) if message.type == "error" else None,
        )
        page.goto(f"{airflow.url}/plugin/debcm")
        frame = page.frame_locator("iframe")
        frame.locator("#runs").wait_for()
        decisions = frame.locator("#runs .refuse").count()
        frame.get_by_role("link", name="report").first.click()
        decided = frame.locator("#decision").inner_text()
        browser.close()
    assert (decisions, decided) == (2, "refuse")
    assert errors == []


def test_shards_have_readable_labels(nights: Nights) -> None:
    labels = [
        instance["rendered_map_index"]
        for run in nights.watched.runs("media_features")
        for instance in nights.watched.tasks(run).get("extract", [])
        if instance["state"] == "success"
    ]
    assert "shard 0: 9 clips, 0 min" in labels
