"""Counts the deadline of a DAG run from its start; a listener in Airflow's scheduler.

Airflow can count a deadline from when a DAG run is queued, not from its start. Since 3.3.0 it also
fails to clear tasks of a run with such a deadline (https://github.com/apache/airflow/issues/70368).
So our deadlines are created with a time that never comes, and this listener sets the real time.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow.listeners import hookimpl

# The time of a deadline whose DAG run has not started.
NEVER = dt.datetime(9000, 1, 1, tzinfo=dt.UTC)
CALLBACK = "pipeline.orchestration.dag_helpers.alert_run_late"


@contextmanager
def without_flush(dag_run: Any) -> Iterator[Any]:
    """Yield the session of a DAG run, or None; queries in the block write nothing.

    Airflow hides errors of listeners. A failed write would leave the scheduler an unusable session.
    """
    from sqlalchemy.orm import object_session

    session = object_session(dag_run)
    if session is None:
        yield None
    else:
        with session.no_autoflush:
            yield session


@hookimpl
def on_dag_run_running(dag_run: Any) -> None:
    """Set the deadlines of a DAG run that starts, or starts again after it was cleared.

    Runs of a backfill get none: they share slots with other runs, and the timeouts of their tasks
    end them.

    Args:
        dag_run: a `DagRun` in the scheduler's session, which commits the change.
    """
    if dag_run.run_type == "backfill":
        return
    with without_flush(dag_run):
        for deadline in dag_run.deadlines:
            call = deadline.callback.data
            if call.get("path") == CALLBACK:
                hours = dt.timedelta(hours=call["kwargs"]["hours"])
                deadline.deadline_time = dag_run.start_date + hours
                # A run that was late before it was cleared can be late again.
                deadline.missed = False
