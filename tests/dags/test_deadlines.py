"""Deadlines of DAG runs, through Airflow's own functions on a database.

Faults 1 and 3 of the on-call list: clearing a run with a deadline answered 500, and runs that had
failed, or had only waited in the queue, raised a second alert.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from pipeline.orchestration.deadlines import NEVER
from tests.helpers.dag_runs import make_run, start

pytestmark = pytest.mark.usefixtures("database")

HOURS = dt.timedelta(hours=8)


def tasks(session: Any, run: Any, *names: str) -> list[Any]:
    return [ti for ti in run.get_task_instances(session=session) if ti.task_id in names]


@pytest.mark.parametrize("state", ["failed", "running", "queued", "success"])
@pytest.mark.parametrize("dag_id", ["media_features", "debcm_retrain", "lake_upkeep"])
def test_tasks_of_a_run_in_every_state_can_be_cleared(
    session: Any, dag_id: str, state: str
) -> None:
    from airflow.models.taskinstance import clear_task_instances

    run = make_run(session, dag_id)
    start(session, run)
    run.state = state
    instances = run.get_task_instances(session=session)
    for instance in instances:
        instance.state = "failed"
    session.flush()
    clear_task_instances(instances[:2], session)
    assert [instance.state for instance in instances[:2]] == [None, None]
    assert run.state in ("queued", "running")


@pytest.mark.parametrize("run_type", ["manual", "backfill"])
def test_a_run_that_waits_in_the_queue_is_never_late(session: Any, run_type: str) -> None:
    run = make_run(session, "debcm_retrain", run_type)
    (deadline,) = run.deadlines
    assert deadline.deadline_time == NEVER + HOURS


def test_the_scheduler_counts_from_the_start_and_again_after_a_clear(session: Any) -> None:
    from airflow.models.taskinstance import clear_task_instances

    run = make_run(session, "media_features")
    start(session, run)
    (deadline,) = run.deadlines
    assert deadline.deadline_time == run.start_date + HOURS
    first = deadline.deadline_time
    run.state = "failed"
    clear_task_instances(tasks(session, run, "ingest"), session)
    start(session, run)
    assert first < deadline.deadline_time == run.start_date + HOURS


@pytest.mark.parametrize(("state", "count"), [("running", 1), ("failed", 0), ("queued", 0)])
def test_a_missed_deadline_sends_an_alert_only_if_the_run_is_running(
    session: Any, state: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.execution_time.callback_supervisor import execute_callback

    sent: list[Any] = []
    monkeypatch.setattr("pipeline.orchestration.alerts.send", lambda _, alert: sent.append(alert))
    run = make_run(session, "media_features")
    start(session, run)
    run.state = state
    session.flush()
    (deadline,) = run.deadlines
    deadline.handle_miss(session)
    call = deadline.callback.data
    done = execute_callback(call["path"], call["kwargs"], Path(), None, MagicMock())
    assert done == (True, None)
    assert [alert.title for alert in sent] == ["media_features is late"] * count
