"""Shared by the DAG files: retries, alerts, deadlines, lineage and metrics.

Airflow imports this module whenever it parses the DAG files, so its top level imports only Airflow,
the settings and the errors.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow.providers.standard.sensors.filesystem import FileSensor
from airflow.sdk import Asset, ExceptionRetryPolicy, RetryAction, RetryRule
from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference
from airflow.sdk.exceptions import AirflowSensorTimeout
from airflow.sdk.observability import stats

from pipeline.errors import DayNotReadyError, LandingAccessError, NoDayError, PipelineError
from pipeline.orchestration.deadlines import NEVER
from pipeline.settings.load import Settings, load_settings

log = logging.getLogger(__name__)

# Errors that a retry cannot help fail at once, so that people on call have time to fix them before
# morning: ours of class Permanent, and errors of the program. All others are retried, because
# Airflow's own errors (lost connections, an API server that restarts) have many classes.
RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule("pipeline.errors.Permanent", RetryAction.FAIL),
        # Nobody answered in time.
        RetryRule("airflow.providers.standard.exceptions.HITLTimeoutError", RetryAction.FAIL),
        # A ValueError, but of an answer that was cut off.
        RetryRule("json.JSONDecodeError", RetryAction.DEFAULT),
        RetryRule(
            [
                f"builtins.{name}"
                for name in (
                    *("ArithmeticError", "AssertionError", "AttributeError", "ImportError"),
                    *("LookupError", "NameError", "NotImplementedError", "RecursionError"),
                    *("SyntaxError", "TypeError", "ValueError"),
                )
            ],
            RetryAction.FAIL,
        ),
    ],
    default=RetryAction.DEFAULT,
)

# How long a retraining waits for days in extraction: it must start before the next night.
MAX_EXTRACTION_WAIT = dt.timedelta(hours=20)
# How long a retraining waits for a person to approve its release: one runs at a time, so the next
# night's would wait too.
MAX_APPROVAL_WAIT = dt.timedelta(hours=20)


def default_args(settings: Settings) -> dict[str, Any]:
    """Return the arguments of every task: owner, retries, timeout and alert."""
    return {
        "owner": settings.schedule.owner,
        "retries": 3,
        "retry_delay": dt.timedelta(minutes=1),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": dt.timedelta(minutes=20),
        "retry_policy": RETRY_POLICY,
        "execution_timeout": dt.timedelta(hours=2),
        "on_failure_callback": alert_task_failed,
    }


def deadline_alert(settings: Settings) -> DeadlineAlert:
    """Return an alert for DAG runs still running `[schedule] deadline_hours` after their start.

    `pipeline.orchestration.deadlines` sets the time when a run starts.
    """
    hours = settings.schedule.deadline_hours
    return DeadlineAlert(
        reference=DeadlineReference.FIXED_DATETIME(NEVER),
        interval=dt.timedelta(hours=hours),
        callback=SyncCallback(alert_run_late, kwargs={"hours": hours}),
    )


class LandingDaySensor(FileSensor):
    """A `FileSensor` for a landing day. Its errors name the missing file."""

    def execute(self, context: Any) -> Any:
        """Start waiting.

        Raises:
            NoDayError: the path names no day, so the file can never appear.
        """
        folder = Path(self.filepath).parent.name
        try:
            dt.date.fromisoformat(folder.removeprefix("dt="))
        except ValueError as error:
            raise NoDayError(
                "the run names no landing day: its parameter day is empty, and it has no partition "
                "key",
                where=folder,
            ) from error
        return super().execute(context)

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Any
    ) -> Any:
        """Continue after the wait.

        Raises:
            AirflowSensorTimeout: the file did not appear in time. Airflow never retries this error.
        """
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowSensorTimeout:
            hours = self.timeout / 3600
            missing: PipelineError = DayNotReadyError(
                f"the file did not appear within {hours:g} hours", where=self.filepath
            )
            folder = Path(self.filepath).parent
            if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
                missing = LandingAccessError("Reading is not permitted", where=str(folder))
            raise AirflowSensorTimeout(str(missing)) from missing


def may_retrain(context: Any) -> bool:
    """Return whether a retraining may start: no day is in progress, or it has waited long enough.

    Days that wait for their `_SUCCESS` file do not count, because it may never appear.
    """
    task = context["ti"]
    active = task.get_dr_count(dag_id="media_features", states=["queued", "running"])
    waiting = task.get_ti_count(
        dag_id="media_features", task_ids=["wait_for_day"], states=["deferred"]
    )
    if active <= waiting:
        return True
    waited = dt.datetime.now(dt.UTC) - context["dag_run"].start_date
    if waited > MAX_EXTRACTION_WAIT:
        log.warning(
            "waited %s for days in extraction; training without %d of them",
            waited,
            active - waiting,
        )
        return True
    log.info("waiting for the extraction of %d day(s)", active - waiting)
    return False


def table_assets(*names: str) -> list[Asset]:
    """Return tables of the lake as assets, for the asset graph and OpenLineage events."""
    root = load_settings().lake.root
    return [_asset(f"table.{name}", f"{root}/tables/{name}") for name in names]


def folder_assets(*names: str) -> list[Asset]:
    """Return folders of the lake as assets: "runs", "releases" or "reports"."""
    root = load_settings().lake.root
    return [_asset(f"folder.{name}", f"{root}/{name}") for name in names]


def landing_assets() -> list[Asset]:
    """Return the landing folder as an asset."""
    return [_asset("landing", str(load_settings().landing.root))]


def _asset(name: str, place: str) -> Asset:
    return Asset(name, uri=place if "://" in place else f"file://{place}")


def send_metrics(values: Mapping[str, float]) -> None:
    """Send gauges through Airflow's metrics (StatsD or OpenTelemetry)."""
    for name, value in values.items():
        stats.gauge(name, value)
        log.info("metric %s = %g", name, value)


def alert_task_failed(context: Any) -> None:
    """Send an alert about a task that failed and is not retried."""
    from pipeline.orchestration.alerts import Alert, send

    task = context["task_instance"]
    settings = load_settings()
    error = context.get("exception")
    # An error of Airflow's, such as a sensor's timeout, can wrap one of ours.
    ours = error if isinstance(error, PipelineError) else getattr(error, "__cause__", None)
    if isinstance(ours, PipelineError):
        what, next_step = f"{type(ours).__name__}: {ours.summary}", ours.remedy
    else:
        what = f"{type(error).__name__}: {error}"
        next_step = "Read the task's log and docs/operate.md. Then clear the task to run it again."
    # Each instance of a mapped task sends its own alert.
    shard = f" ({label})" if (label := getattr(task, "rendered_map_index", None)) else ""
    send(
        settings.alerts,
        Alert(
            title=f"{task.dag_id}.{task.task_id}{shard} failed",
            day=_retrained_day(task) or _day(context["dag_run"]),
            what=what,
            where=run_url(settings, task.dag_id, task.run_id),
            next_step=next_step,
        ),
    )


def alert_gate_refused(context: Any, decision: Mapping[str, Any]) -> None:
    """Send an alert about a run that the gate refused, with the broken rules."""
    from pipeline.orchestration.alerts import Alert, send

    settings = load_settings()
    run = context["dag_run"]
    broken = [f"{v['rule']}: {v['text']}" for v in decision["verdicts"] if not v["passed"]]
    send(
        settings.alerts,
        Alert(
            title=f"the gate refused {decision['run_id']}",
            # A run id begins with the newest day of its data.
            day=decision["run_id"][:10],
            what="; ".join(broken),
            where=run_url(settings, run.dag_id, run.run_id),
            next_step="The current release stays. Read the run's report. docs/releases.md explains "
            "each rule and how to overrule the gate.",
        ),
    )


def alert_run_late(context: Mapping[str, Any], hours: float) -> None:
    """Send an alert about a DAG run that has missed its deadline, if it is still running.

    A run that has failed has already sent an alert, and one that is queued has not started.

    Args:
        context: `dag_run` has the fields of Airflow's REST API, as of the deadline.
        hours: the deadline, in hours after the start of the run.
    """
    from pipeline.orchestration.alerts import Alert, send

    run = context["dag_run"]
    if run["state"] != "running":
        log.info("%s %s is %s; no alert", run["dag_id"], run["dag_run_id"], run["state"])
        return
    settings = load_settings()
    send(
        settings.alerts,
        Alert(
            title=f"{run['dag_id']} is late",
            day=str(run.get("partition_key") or (run.get("conf") or {}).get("day") or ""),
            what=f"still running {hours:g} hours after its start",
            where=run_url(settings, run["dag_id"], run["dag_run_id"]),
            next_step="Open the DAG run: the cause is the task that is still running or waiting. "
            "The run continues.",
        ),
    )


def run_url(settings: Settings, dag_id: str, run_id: str) -> str:
    """Return the URL of a DAG run in the Airflow UI."""
    return f"{settings.alerts.ui_url}/dags/{dag_id}/runs/{run_id}"


def _retrained_day(task: Any) -> str:
    """Return the newest day that a retraining has used; empty for other DAGs and if unknown."""
    if task.dag_id != "debcm_retrain":
        return ""
    try:
        return str(task.xcom_pull(task_ids="confounders") or "")
    except Exception:
        # The alert must be sent, whatever Airflow answers.
        log.exception("the day of the retraining cannot be read")
        return ""


def _day(run: Any) -> str:
    return str(run.partition_key or (run.conf or {}).get("day") or "")
