"""Reads from Airflow's database which runs of our DAGs are active, and which failed recently."""

from __future__ import annotations

import datetime as dt
import logging
import os
from dataclasses import dataclass
from typing import Any

from pipeline.orchestration.local_airflow import environment

log = logging.getLogger(__name__)

FAILED_DAYS = 3
_DAGS = ("media_features", "debcm_retrain", "feature_backfill", "lake_upkeep")
_ACTIVE = ("queued", "running")


@dataclass(frozen=True)
class DagRunState:
    """An active or failed DAG run.

    Attributes:
        dag_id: the DAG.
        run_id: Airflow's id of the DAG run.
        partition: the landing day; of a retraining, the newest day that it has used. Empty if the
            DAG run has none.
        state: "queued", "running" or "failed".
        since: when it started or was queued; for a failed DAG run, when it ended.
        tasks: the tasks that failed.
    """

    dag_id: str
    run_id: str
    partition: str
    state: str
    since: dt.datetime | None
    tasks: tuple[str, ...] = ()


def active_and_failed(now: dt.datetime) -> list[DagRunState] | str:
    """Return the active DAG runs, and the recent failed ones that no later run has resolved.

    Args:
        now: the current time; failures up to `FAILED_DAYS` older are returned.

    Returns:
        The DAG runs, oldest first, or one sentence that says why they cannot be read.
    """
    if "AIRFLOW_HOME" not in os.environ:
        os.environ.update(environment())
    # Airflow reads the environment when it is first imported.
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import or_, select
    from sqlalchemy.exc import SQLAlchemyError

    ended_recently = DagRun.end_date >= now - dt.timedelta(days=FAILED_DAYS)
    wanted = (
        select(DagRun)
        .where(DagRun.dag_id.in_(_DAGS), or_(DagRun.state.in_(_ACTIVE), ended_recently))
        .order_by(DagRun.queued_at)
    )
    try:
        with create_session() as session:
            runs = list(session.scalars(wanted))
            return [_state(run) for run in runs if not is_resolved(run, runs)]
    except SQLAlchemyError as error:
        log.debug("Airflow's database: %s", error)
        return (
            f"Airflow's database cannot be read ({type(error).__name__}); start Airflow once with "
            "`debcm ui`"
        )


def is_resolved(run: Any, runs: list[Any]) -> bool:
    """Return whether a DAG run succeeded, or a later one of the same DAG and day did not fail."""
    if run.state != "failed":
        return bool(run.state not in _ACTIVE)
    return any(
        other.state != "failed"
        and _purpose(other) == _purpose(run)
        and _start_time(other) > _start_time(run)
        for other in runs
    )


def _start_time(run: Any) -> dt.datetime:
    # `airflow dags test` never queues its run.
    start: dt.datetime = run.queued_at or run.start_date
    return start


def _purpose(run: Any) -> tuple[object, ...]:
    return run.dag_id, _day(run) or run.conf


def _state(run: Any) -> DagRunState:
    # It imports Airflow.
    from pipeline.orchestration.run_notes import retrained_day

    failed = run.state == "failed"
    tasks = {task.task_id for task in run.task_instances if task.state == "failed"}
    return DagRunState(
        run.dag_id,
        run.run_id,
        retrained_day(run) or _day(run),
        str(run.state),
        run.end_date if failed else run.start_date or run.queued_at,
        tuple(sorted(tasks)) if failed else (),
    )


def _day(run: Any) -> str:
    return run.partition_key or str((run.conf or {}).get("day", ""))
