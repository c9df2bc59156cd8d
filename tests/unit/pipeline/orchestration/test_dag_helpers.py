"""What the DAGs share: the alerts that they send, and how long a retraining waits."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.errors import (
    DayNotReadyError,
    LandingAccessError,
    NoDayError,
    TooManyRejectsError,
)
from pipeline.orchestration.dag_helpers import (
    LandingDaySensor,
    alert_gate_refused,
    alert_run_late,
    alert_task_failed,
    may_retrain,
    table_assets,
)


def context(error: BaseException | None = None, **run: Any) -> dict[str, Any]:
    return {
        "task_instance": SimpleNamespace(dag_id="media_features", task_id="ingest", run_id="r1"),
        "dag_run": SimpleNamespace(
            **{"dag_id": "media_features", "run_id": "r1", "partition_key": None, "conf": {}} | run
        ),
        "exception": error,
    }


def test_alert_about_our_error_says_what_where_and_what_to_do(posted: list[dict[str, Any]]) -> None:
    error = TooManyRejectsError("3 of 4 rows rejected", where="day 2026-03-01")
    alert_task_failed(context(error, partition_key="2026-03-01"))
    (alert,) = posted
    assert alert["title"] == "media_features.ingest failed"
    assert alert["day"] == "2026-03-01"
    assert alert["what"] == "TooManyRejectsError: 3 of 4 rows rejected (day 2026-03-01)"
    assert alert["where"] == "https://airflow.example.org/dags/media_features/runs/r1"
    assert alert["next_step"] == error.remedy


def test_alert_about_a_shard_names_the_shard(posted: list[dict[str, Any]]) -> None:
    given = context(TooManyRejectsError("3 of 4 rows rejected"))
    given["task_instance"].rendered_map_index = "shard 3: 120 clips, 28 min"
    alert_task_failed(given)
    (alert,) = posted
    assert alert["title"] == "media_features.ingest (shard 3: 120 clips, 28 min) failed"


def test_alert_about_an_unexpected_error_names_the_log_and_the_guide(
    posted: list[dict[str, Any]],
) -> None:
    alert_task_failed(context(ZeroDivisionError("by zero"), conf={"day": "2026-03-02"}))
    (alert,) = posted
    assert alert["what"] == "ZeroDivisionError: by zero"
    assert alert["day"] == "2026-03-02"
    assert "docs/operate.md" in alert["next_step"]


def test_alert_about_a_refusal_names_only_the_broken_rules(posted: list[dict[str, Any]]) -> None:
    verdicts = [
        {"rule": "coverage", "passed": True, "text": "fine"},
        {"rule": "beats_random", "passed": False, "text": "0.1 against 0.2"},
    ]
    alert_gate_refused(context(), {"run_id": "2026-03-01-0123456789", "verdicts": verdicts})
    (alert,) = posted
    assert alert["title"] == "the gate refused 2026-03-01-0123456789"
    assert alert["day"] == "2026-03-01"
    assert alert["what"] == "beats_random: 0.1 against 0.2"


def test_alert_about_a_retraining_names_the_newest_day_of_its_data(
    posted: list[dict[str, Any]],
) -> None:
    """Fault 4 of the on-call list: it named the day that started the retraining."""

    def fail(**_: Any) -> None:
        raise RuntimeError("the API server does not answer")

    for pull, day in ((lambda **_: "2026-03-03", "2026-03-03"), (fail, "2026-03-01")):
        given = context(ZeroDivisionError("by zero"), partition_key="2026-03-01")
        given["task_instance"] = SimpleNamespace(
            dag_id="debcm_retrain", task_id="teacher", run_id="r1", xcom_pull=pull
        )
        alert_task_failed(given)
        assert posted[-1]["day"] == day


def late_run(state: str) -> dict[str, Any]:
    run = {"dag_id": "debcm_retrain", "dag_run_id": "r2", "partition_key": "D", "state": state}
    return {"dag_run": run}


def test_alert_about_a_late_run_names_run_day_and_hours(posted: list[dict[str, Any]]) -> None:
    alert_run_late(late_run("running"), hours=8)
    (alert,) = posted
    assert (alert["title"], alert["day"]) == ("debcm_retrain is late", "D")
    assert alert["what"] == "still running 8 hours after its start"
    assert alert["where"].endswith("/dags/debcm_retrain/runs/r2")


@pytest.mark.parametrize("state", ["failed", "success", "queued"])
def test_a_run_that_is_not_running_is_not_late(state: str, posted: list[dict[str, Any]]) -> None:
    """Fault 3 of the on-call list: a failed run raised a second alert."""
    alert_run_late(late_run(state), hours=8)
    assert posted == []


class Runs:
    """The part of a task instance that counts other DAG runs."""

    def __init__(self, active: int, waiting: int) -> None:
        self.counts = {"active": active, "waiting": waiting}

    def get_dr_count(self, dag_id: str, states: list[str]) -> int:
        assert (dag_id, states) == ("media_features", ["queued", "running"])
        return self.counts["active"]

    def get_ti_count(self, dag_id: str, task_ids: list[str], states: list[str]) -> int:
        assert (dag_id, task_ids, states) == ("media_features", ["wait_for_day"], ["deferred"])
        return self.counts["waiting"]


@pytest.mark.parametrize(
    ("active", "waiting", "hours", "expected"),
    [(0, 0, 0, True), (2, 2, 0, True), (2, 1, 0, False), (1, 0, 19, False), (1, 0, 21, True)],
)
def test_a_retraining_waits_at_most_20_hours_for_days_in_progress(
    active: int, waiting: int, hours: int, expected: bool
) -> None:
    started = dt.datetime.now(dt.UTC) - dt.timedelta(hours=hours)
    given = {"ti": Runs(active, waiting), "dag_run": SimpleNamespace(start_date=started)}
    assert may_retrain(given) is expected


def test_alert_about_a_missing_day_names_the_missing_file(posted: list[dict[str, Any]]) -> None:
    from airflow.sdk.bases.operator import TriggerFailureReason
    from airflow.sdk.exceptions import AirflowSensorTimeout

    path = "/landing/dt=2026-03-01/_SUCCESS"
    sensor = LandingDaySensor(task_id="wait_for_day", filepath=path, timeout=7200)
    with pytest.raises(AirflowSensorTimeout, match=path) as raised:
        sensor.resume_execution("__fail__", {"error": TriggerFailureReason.TRIGGER_TIMEOUT}, {})
    alert_task_failed(context(raised.value, partition_key="2026-03-01"))
    (alert,) = posted
    expected = f"DayNotReadyError: the file did not appear within 2 hours ({path})"
    assert alert["what"] == expected
    assert alert["next_step"] == DayNotReadyError.remedy


def test_alert_about_an_unreadable_day_does_not_ask_for_another_delivery(
    posted: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 8: the folder needs another mode."""
    from airflow.sdk.bases.operator import TriggerFailureReason
    from airflow.sdk.exceptions import AirflowSensorTimeout

    day = tmp_path / "dt=2026-03-01"
    day.mkdir()
    monkeypatch.setattr("os.access", lambda *_: False)  # the tests may run as root
    sensor = LandingDaySensor(task_id="wait_for_day", filepath=str(day / "_SUCCESS"), timeout=7200)
    with pytest.raises(AirflowSensorTimeout, match=str(day)) as raised:
        sensor.resume_execution("__fail__", {"error": TriggerFailureReason.TRIGGER_TIMEOUT}, {})
    alert_task_failed(context(raised.value, partition_key="2026-03-01"))
    assert posted[0]["what"].startswith("LandingAccessError: ")
    assert posted[0]["next_step"] == LandingAccessError.remedy


def test_a_run_without_a_day_fails_at_once(posted: list[dict[str, Any]]) -> None:
    sensor = LandingDaySensor(task_id="wait_for_day", filepath="/landing/dt=None/_SUCCESS")
    with pytest.raises(NoDayError, match=r"parameter day is empty.*dt=None") as raised:
        sensor.execute({})
    alert_task_failed(context(raised.value))
    (alert,) = posted
    assert '{"day": "YYYY-MM-DD"}' in alert["next_step"]


@pytest.mark.parametrize(
    ("root", "uri"),
    [("s3://bucket/lake", "s3://bucket/lake/tables/videos"), ("/l", "file:///l/tables/videos")],
)
def test_table_assets_are_urls_below_the_lake(
    root: str, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEBCM_LAKE__ROOT", root)
    (asset,) = table_assets("videos")
    assert (asset.name, asset.uri) == ("table.videos", uri)
