"""Notes on DAG runs which days they are for; a listener in Airflow's scheduler.

A run that is triggered by hand has no partition key, so the grid does not show its day. A
retraining has the partition key of the day that started it, but it trains on all days.
"""

from __future__ import annotations

from typing import Any

from airflow.listeners import hookimpl

from pipeline.orchestration.deadlines import without_flush

_DAGS = {"media_features", "feature_backfill"}
_RETRAINING = "debcm_retrain"
_PREFIX = "trained as of "
# Characters of a note in Airflow's database.
_LONGEST = 1000


@hookimpl
def on_dag_run_running(dag_run: Any) -> None:
    """Note the parameters of a run that was triggered by hand.

    Args:
        dag_run: a `DagRun` in the scheduler's session, which commits the change.
    """
    if dag_run.dag_id in _DAGS and dag_run.conf:
        text = ", ".join(f"{name} {value}" for name, value in dag_run.conf.items())
        _write(dag_run, text, replaces="")


@hookimpl
def on_dag_run_success(dag_run: Any) -> None:
    """Note the newest day that a retraining has used."""
    _note_retraining(dag_run)


@hookimpl
def on_dag_run_failed(dag_run: Any) -> None:
    """Note the newest day that a retraining has used."""
    _note_retraining(dag_run)


def retrained_day(dag_run: Any) -> str:
    """Return the newest day that a retraining has used, ISO 8601; empty if it is not known.

    Args:
        dag_run: a `DagRun` in a session.
    """
    from airflow.models.xcom import XComModel
    from sqlalchemy import select

    if dag_run.dag_id != _RETRAINING:
        return ""
    wanted = select(XComModel.value).where(
        XComModel.dag_run_id == dag_run.id,
        XComModel.task_id == "confounders",
        XComModel.key == "return_value",
    )
    with without_flush(dag_run) as session:
        found = session.execute(wanted).first()
    return "" if found is None else str(XComModel.deserialize_value(found))


def _note_retraining(dag_run: Any) -> None:
    if day := retrained_day(dag_run):
        _write(dag_run, _PREFIX + day, replaces=_PREFIX)


def _write(dag_run: Any, text: str, replaces: str) -> None:
    """Write a note, unless a person has written one."""
    with without_flush(dag_run):
        if dag_run.note is None or (replaces and dag_run.note.startswith(replaces)):
            dag_run.note = text[:_LONGEST]
