"""The listener that sets deadlines; tests/dags/test_deadlines.py checks it inside Airflow.

Fault 3 of the on-call list: deadlines counted from when a run was queued.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from pipeline.orchestration.deadlines import CALLBACK, NEVER, on_dag_run_running

START = dt.datetime(2026, 3, 5, 2, tzinfo=dt.UTC)


def run_with_deadlines(run_type: str, **deadlines: str) -> Any:
    """Return a started DAG run; `deadlines` are names -> paths of the callbacks."""
    from airflow.models.dagrun import DagRun
    from airflow.models.deadline import Deadline
    from airflow.sdk.definitions.callback import SyncCallback

    run = DagRun(dag_id="media_features", run_id="r1", run_type=run_type, start_date=START)
    run.deadlines = [
        Deadline(NEVER, SyncCallback(path, kwargs={"hours": 8.0}), 1, None)
        for path in deadlines.values()
    ]
    return run


def test_the_deadline_of_a_run_is_hours_after_its_start() -> None:
    run = run_with_deadlines("manual", ours=CALLBACK)
    on_dag_run_running(run)
    (deadline,) = run.deadlines
    assert deadline.deadline_time == START + dt.timedelta(hours=8)


def test_a_late_run_that_starts_again_has_a_new_deadline() -> None:
    run = run_with_deadlines("manual", ours=CALLBACK)
    (deadline,) = run.deadlines
    deadline.missed = True
    on_dag_run_running(run)
    assert deadline.missed is False


def test_runs_of_a_backfill_and_deadlines_of_others_are_not_changed() -> None:
    for run in (
        run_with_deadlines("backfill", ours=CALLBACK),
        run_with_deadlines("manual", other="airflow.utils.email.send_email"),
    ):
        on_dag_run_running(run)
        assert [deadline.deadline_time for deadline in run.deadlines] == [NEVER]
