"""What the DAGs share: whom they wake up and with which words, and when a retraining waits."""

from __future__ import annotations

import datetime as dt
import http.server
import json
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.errors import DayNotReadyError, NoDayError, TooManyRejectsError
from pipeline.orchestration.dag_helpers import (
    LandingDaySensor,
    features_are_quiet,
    gate_refused,
    run_late,
    task_failed,
)
from pipeline.orchestration.dag_runs import dag_runs, is_settled


@pytest.fixture
def posted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What a web server on loopback is sent."""
    found: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    monkeypatch.setenv("DEBCM_ALERTS__WEBHOOK", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("DEBCM_ALERTS__UI_URL", "https://airflow.example.org")
    yield found
    server.shutdown()
    thread.join(10)
    server.server_close()


def context(error: BaseException | None = None, **run: Any) -> dict[str, Any]:
    return {
        "task_instance": SimpleNamespace(dag_id="media_features", task_id="ingest", run_id="r1"),
        "dag_run": SimpleNamespace(
            **{"dag_id": "media_features", "run_id": "r1", "partition_key": None, "conf": {}} | run
        ),
        "exception": error,
    }


def test_a_failure_of_ours_says_what_where_and_what_next(posted: list[dict[str, Any]]) -> None:
    error = TooManyRejectsError("3 of 4 rows rejected", where="day 2026-03-01")
    task_failed(context(error, partition_key="2026-03-01"))
    (alert,) = posted
    assert alert["title"] == "media_features.ingest failed"
    assert alert["day"] == "2026-03-01"
    assert alert["what"] == "TooManyRejectsError: day 2026-03-01: 3 of 4 rows rejected"
    assert alert["where"] == "https://airflow.example.org/dags/media_features/runs/r1"
    assert alert["next_step"] == error.remedy


def test_a_failure_of_a_shard_says_which(posted: list[dict[str, Any]]) -> None:
    given = context(TooManyRejectsError("3 of 4 rows rejected"))
    given["task_instance"].rendered_map_index = "shard 3: 120 clips, 28 min"
    task_failed(given)
    (alert,) = posted
    assert alert["title"] == "media_features.ingest (shard 3: 120 clips, 28 min) failed"


def test_any_other_failure_leads_to_the_log_and_the_runbook(posted: list[dict[str, Any]]) -> None:
    task_failed(context(ZeroDivisionError("by zero"), conf={"day": "2026-03-02"}))
    (alert,) = posted
    assert alert["what"] == "ZeroDivisionError: by zero"
    assert alert["day"] == "2026-03-02"
    assert "docs/operate.md" in alert["next_step"]


def test_a_refusal_names_the_broken_rules_alone(posted: list[dict[str, Any]]) -> None:
    verdicts = [
        {"rule": "coverage", "passed": True, "text": "fine"},
        {"rule": "beats_random", "passed": False, "text": "0.1 against 0.2"},
    ]
    gate_refused(context(), {"run_id": "2026-03-01-0123456789", "verdicts": verdicts})
    (alert,) = posted
    assert alert["title"] == "the gate refused 2026-03-01-0123456789"
    assert alert["what"] == "beats_random: 0.1 against 0.2"


def test_a_late_run_is_told_even_when_little_is_known_of_it(posted: list[dict[str, Any]]) -> None:
    run_late({"dag_run": {"dag_id": "debcm_retrain", "dag_run_id": "r2", "partition_key": "D"}})
    run_late()
    known, unknown = posted
    assert (known["title"], known["day"]) == ("debcm_retrain is late", "D")
    assert known["where"].endswith("/dags/debcm_retrain/runs/r2")
    assert unknown["title"] == "a DAG is late"


class Runs:
    """As much of a task instance as the wait for other days asks."""

    def __init__(self, active: int, waiting: int) -> None:
        self.counts = {"active": active, "waiting": waiting}

    def get_dr_count(self, dag_id: str, states: list[str]) -> int:
        assert (dag_id, states) == ("media_features", ["queued", "running"])
        return self.counts["active"]

    def get_ti_count(self, dag_id: str, task_ids: list[str], states: list[str]) -> int:
        assert (dag_id, task_ids, states) == ("media_features", ["wait_for_day"], ["deferred"])
        return self.counts["waiting"]


@pytest.mark.parametrize(
    ("active", "waiting", "hours", "quiet"),
    [(0, 0, 0, True), (2, 2, 0, True), (2, 1, 0, False), (1, 0, 19, False), (1, 0, 21, True)],
)
def test_a_retraining_waits_for_days_at_work_but_not_for_ever(
    active: int, waiting: int, hours: int, quiet: bool
) -> None:
    started = dt.datetime.now(dt.UTC) - dt.timedelta(hours=hours)
    given = {"ti": Runs(active, waiting), "dag_run": SimpleNamespace(start_date=started)}
    assert features_are_quiet(given) is quiet


def test_a_day_that_never_came_is_named(posted: list[dict[str, Any]]) -> None:
    from airflow.sdk.bases.operator import TriggerFailureReason
    from airflow.sdk.exceptions import AirflowSensorTimeout

    sensor = LandingDaySensor(
        task_id="wait_for_day", filepath="/landing/dt=2026-03-01/_SUCCESS", timeout=7200
    )
    missing = r"/landing/dt=2026-03-01/_SUCCESS: not there after 2 hours"
    with pytest.raises(AirflowSensorTimeout, match=missing) as raised:
        sensor.resume_execution("__fail__", {"error": TriggerFailureReason.TRIGGER_TIMEOUT}, {})
    task_failed(context(raised.value, partition_key="2026-03-01"))
    (alert,) = posted
    assert alert["what"] == f"DayNotReadyError: {missing}"
    assert alert["next_step"] == DayNotReadyError.remedy


def test_a_run_that_was_not_told_its_day_does_not_wait(posted: list[dict[str, Any]]) -> None:
    sensor = LandingDaySensor(task_id="wait_for_day", filepath="/landing/dt=None/_SUCCESS")
    with pytest.raises(NoDayError, match="dt=None") as raised:
        sensor.execute({})
    task_failed(context(raised.value))
    (alert,) = posted
    assert '{"day": "YYYY-MM-DD"}' in alert["next_step"]


def test_without_a_database_status_says_why() -> None:
    assert "has it run here yet" in str(dag_runs(dt.datetime.now(dt.UTC)))


def a_run(state: str, hour: int, **changes: Any) -> SimpleNamespace:
    queued = dt.datetime(2026, 3, 5, hour, tzinfo=dt.UTC)
    told = {"dag_id": "media_features", "partition_key": "2026-03-04", "conf": {}}
    return SimpleNamespace(**told | {"state": state, "queued_at": queued} | changes)


LATER = dt.datetime(2026, 3, 5, 4, tzinfo=dt.UTC)
"""When a run of `airflow dags test` began, which was never queued."""


@pytest.mark.parametrize(
    ("other", "settled"),
    [
        (a_run("success", 3), True),
        (a_run("running", 3), True),
        (a_run("success", 3, partition_key=None, conf={"day": "2026-03-04"}), True),
        (a_run("success", 0, queued_at=None, start_date=LATER), True),
        (a_run("success", 1), False),
        (a_run("failed", 3), False),
        (a_run("success", 3, partition_key="2026-03-03"), False),
        (a_run("success", 3, dag_id="debcm_retrain"), False),
    ],
)
def test_a_failure_is_told_until_a_later_run_of_the_same_day(
    other: SimpleNamespace, settled: bool
) -> None:
    failed = a_run("failed", 2)
    assert is_settled(failed, [failed, other]) is settled
