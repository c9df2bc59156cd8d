"""What the DAG files share: retries, alerts and deadlines. The only module that knows Airflow.

DAG files are wiring; this module holds the few decisions that all of them make alike.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule
from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from pipeline.settings import Settings

# Only errors that can pass are worth a second try; every other one fails at once and wakes
# somebody while there is still night left. A worker that was killed raises nothing: Airflow
# retries that by `retries` alone.
RETRIES = ExceptionRetryPolicy(
    rules=[
        RetryRule("pipeline.errors.Transient", RetryAction.RETRY),
        RetryRule(["builtins.ConnectionError", "builtins.TimeoutError"], RetryAction.RETRY),
        RetryRule("builtins.Exception", RetryAction.FAIL),
    ]
)


def default_args(settings: Settings) -> dict[str, Any]:
    """Arguments of every task: owner, retries, timeout, alert."""
    return {
        "owner": settings.schedule.owner,
        "retries": 3,
        "retry_delay": dt.timedelta(minutes=1),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": dt.timedelta(minutes=20),
        "retry_policy": RETRIES,
        "execution_timeout": dt.timedelta(hours=2),
        "on_failure_callback": task_failed,
    }


def deadline(settings: Settings) -> DeadlineAlert:
    """An alert when a run is not through some hours after it was queued."""
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=dt.timedelta(hours=settings.schedule.deadline_hours),
        callback=SyncCallback(run_late),
    )


def task_failed(context: Any) -> None:
    """Tell people that a task has failed for good: what, which day, where to look."""
    from pipeline.alerts import Alert, send
    from pipeline.settings import load_settings

    task = context["task_instance"]
    settings = load_settings()
    error = context.get("exception")
    send(
        settings.alerts,
        Alert(
            title=f"{task.dag_id}.{task.task_id} failed",
            day=str(context["dag_run"].partition_key or context["dag_run"].conf.get("day") or ""),
            what=f"{type(error).__name__}: {error}",
            where=f"{settings.alerts.ui_url}/dags/{task.dag_id}/runs/{task.run_id}",
            next_step=getattr(error, "remedy", "") or "Read the task's log; docs/operate.md.",
        ),
    )


def run_late(context: Any = None, **_: Any) -> None:
    """Tell people that a run has missed its deadline."""
    from pipeline.alerts import Alert, send
    from pipeline.settings import load_settings

    settings = load_settings()
    run = (context or {}).get("dag_run") or {}
    dag_id = run.get("dag_id", "a DAG")
    send(
        settings.alerts,
        Alert(
            title=f"{dag_id} is late",
            day=str(run.get("partition_key") or ""),
            what=f"not through {settings.schedule.deadline_hours:g} hours after it was queued",
            where=f"{settings.alerts.ui_url}/dags/{dag_id}",
            next_step="Open the run: the task that is still running or waiting is the cause.",
        ),
    )
