"""Airflow's runs of our DAGs, from its database: what is under way, and what failed lately."""

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
_UNDER_WAY = ("queued", "running")


@dataclass(frozen=True)
class DagRunState:
    """A DAG run that is not over, or that failed.

    Attributes:
        dag_id: its DAG.
        run_id: Airflow's id of the run.
        partition: its day; empty where it has none.
        state: "queued", "running" or "failed".
        since: when it was started or queued; of a failed one, when it ended.
        tasks: the tasks that failed.
    """

    dag_id: str
    run_id: str
    partition: str
    state: str
    since: dt.datetime | None
    tasks: tuple[str, ...] = ()


def dag_runs(now: dt.datetime) -> list[DagRunState] | str:
    """Runs under way, and runs of the last days that failed and that no later run has mended.

    Returns:
        The runs, oldest first, or one sentence on why they cannot be read.
    """
    if "AIRFLOW_HOME" not in os.environ:
        os.environ.update(environment())
    # Airflow configures itself when it is first imported.
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import or_, select
    from sqlalchemy.exc import SQLAlchemyError

    lately = DagRun.end_date >= now - dt.timedelta(days=FAILED_DAYS)
    wanted = (
        select(DagRun)
        .where(DagRun.dag_id.in_(_DAGS), or_(DagRun.state.in_(_UNDER_WAY), lately))
        .order_by(DagRun.queued_at)
    )
    try:
        with create_session() as session:
            runs = list(session.scalars(wanted))
            return [_state(run) for run in runs if not is_settled(run, runs)]
    except SQLAlchemyError as error:
        log.debug("Airflow's database: %s", error)
        return f"Airflow's database cannot be read ({type(error).__name__}): has it run here yet?"


def is_settled(run: Any, runs: list[Any]) -> bool:
    """Whether a run succeeded, or failed and a later one for the same did not."""
    if run.state != "failed":
        return bool(run.state not in _UNDER_WAY)
    return any(
        other.state != "failed" and _purpose(other) == _purpose(run) and _begun(other) > _begun(run)
        for other in runs
    )


def _begun(run: Any) -> dt.datetime:
    # A run of `airflow dags test` is never queued.
    begun: dt.datetime = run.queued_at or run.start_date
    return begun


def _purpose(run: Any) -> tuple[object, ...]:
    return run.dag_id, _day(run) or run.conf


def _state(run: Any) -> DagRunState:
    failed = run.state == "failed"
    tasks = {task.task_id for task in run.task_instances if task.state == "failed"}
    return DagRunState(
        run.dag_id,
        run.run_id,
        _day(run),
        str(run.state),
        run.end_date if failed else run.start_date or run.queued_at,
        tuple(sorted(tasks)) if failed else (),
    )


def _day(run: Any) -> str:
    return run.partition_key or str((run.conf or {}).get("day", ""))
