"""What the DAG files share: retries, alerts, deadlines, lineage and metrics.

DAG files are wiring; this module holds the few decisions that all of them make alike. Besides
Airflow it imports settings and errors alone: it is imported whenever the dags folder is parsed.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow.providers.standard.sensors.filesystem import FileSensor
from airflow.sdk import Asset, ExceptionRetryPolicy, RetryAction, RetryRule
from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference
from airflow.sdk.exceptions import AirflowSensorTimeout
from airflow.sdk.observability import stats

from pipeline.errors import DayNotReadyError, NoDayError, PipelineError
from pipeline.settings.load import Settings, load_settings

log = logging.getLogger(__name__)

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

# A retraining waits for days that are being extracted, but never longer than to the next night.
PATIENCE = dt.timedelta(hours=20)


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


class LandingDaySensor(FileSensor):
    """A `FileSensor` that says, when its time is up, which file never came."""

    def execute(self, context: Any) -> Any:
        """Begin to wait.

        Raises:
            NoDayError: the path names no day, which would be waited for in vain.
        """
        folder = Path(self.filepath).parent.name
        try:
            dt.date.fromisoformat(folder.removeprefix("dt="))
        except ValueError as error:
            raise NoDayError("there is no such day to wait for", where=folder) from error
        return super().execute(context)

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Any
    ) -> Any:
        """Go on after the wait.

        Raises:
            AirflowSensorTimeout: naming the path; Airflow never retries it.
        """
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowSensorTimeout:
            hours = self.timeout / 3600
            missing = DayNotReadyError(f"not there after {hours:g} hours", where=self.filepath)
            raise AirflowSensorTimeout(str(missing)) from missing


def features_are_quiet(context: Any) -> bool:
    """Whether no day is being ingested or extracted, or a retraining has waited long enough.

    Days that wait for their `_SUCCESS` file do not count: they may never come.
    """
    task = context["ti"]
    active = task.get_dr_count(dag_id="media_features", states=["queued", "running"])
    waiting = task.get_ti_count(
        dag_id="media_features", task_ids=["wait_for_day"], states=["deferred"]
    )
    if active <= waiting:
        return True
    waited = dt.datetime.now(dt.UTC) - context["dag_run"].start_date
    if waited > PATIENCE:
        log.warning("going on without %d day(s) that are still being extracted", active - waiting)
        return True
    log.info("waiting for %d day(s) that are being extracted", active - waiting)
    return False


def tables(*names: str) -> list[Asset]:
    """Tables of the lake as assets: what the asset graph and OpenLineage events name."""
    root = load_settings().lake.root
    return [_asset(f"table.{name}", f"{root}/tables/{name}") for name in names]


def folders(*names: str) -> list[Asset]:
    """Folders of the store as assets: "runs", "releases", "reports"."""
    root = load_settings().lake.root
    return [_asset(f"folder.{name}", f"{root}/{name}") for name in names]


def landing() -> list[Asset]:
    """The landing folder as an asset."""
    return [_asset("landing", str(load_settings().landing.root))]


def _asset(name: str, place: str) -> Asset:
    return Asset(name, uri=place if "://" in place else f"file://{place}")


def send_metrics(values: Mapping[str, float]) -> None:
    """Send gauges by Airflow's own metrics emission (StatsD or OpenTelemetry)."""
    for name, value in values.items():
        stats.gauge(name, value)
        log.info("metric %s = %g", name, value)


def task_failed(context: Any) -> None:
    """Tell people that a task has failed for good: what, which day, where to look."""
    from pipeline.orchestration.alerts import Alert, send

    task = context["task_instance"]
    settings = load_settings()
    error = context.get("exception")
    # Airflow's own class says how to treat an error; ours, behind it, what it is.
    ours = error if isinstance(error, PipelineError) else getattr(error, "__cause__", None)
    if isinstance(ours, PipelineError):
        what, next_step = f"{type(ours).__name__}: {ours.where}: {ours.what}", ours.remedy
    else:
        what = f"{type(error).__name__}: {error}"
        next_step = "Read the task's log, then docs/operate.md; clear the task to run it again."
    # Of a mapped task each instance fails, and is told, by itself.
    shard = f" ({label})" if (label := getattr(task, "rendered_map_index", None)) else ""
    send(
        settings.alerts,
        Alert(
            title=f"{task.dag_id}.{task.task_id}{shard} failed",
            day=_day(context["dag_run"]),
            what=what,
            where=run_url(settings, task.dag_id, task.run_id),
            next_step=next_step,
        ),
    )


def gate_refused(context: Any, decision: Mapping[str, Any]) -> None:
    """Tell people that the gate refused a run, and by which rules."""
    from pipeline.orchestration.alerts import Alert, send

    settings = load_settings()
    run = context["dag_run"]
    broken = [f"{v['rule']}: {v['text']}" for v in decision["verdicts"] if not v["passed"]]
    send(
        settings.alerts,
        Alert(
            title=f"the gate refused {decision['run_id']}",
            day=_day(run),
            what="; ".join(broken),
            where=run_url(settings, run.dag_id, run.run_id),
            next_step="The current release stays. Read the run's report; docs/releases.md says "
            "what each rule means, and how a person overrules it.",
        ),
    )


def run_late(context: Any = None, **_: Any) -> None:
    """Tell people that a run has missed its deadline."""
    from pipeline.orchestration.alerts import Alert, send

    settings = load_settings()
    run = (context or {}).get("dag_run") or {}
    dag_id, run_id = run.get("dag_id", "a DAG"), run.get("dag_run_id") or run.get("run_id") or ""
    send(
        settings.alerts,
        Alert(
            title=f"{dag_id} is late",
            day=str(run.get("partition_key") or (run.get("conf") or {}).get("day") or ""),
            what=f"not through {settings.schedule.deadline_hours:g} hours after it was queued",
            where=run_url(settings, dag_id, run_id),
            next_step="Open the run: the task that is still running or waiting is the cause.",
        ),
    )


def run_url(settings: Settings, dag_id: str, run_id: str) -> str:
    """Where the Airflow UI shows a run."""
    return f"{settings.alerts.ui_url}/dags/{dag_id}/runs/{run_id}"


def _day(run: Any) -> str:
    return str(run.partition_key or (run.conf or {}).get("day") or "")
