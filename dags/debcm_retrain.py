"""Retrain DebCM on everything that has features, and publish if the gate lets it.

**When** a day's features are ready (asset `features`). `features_quiet` waits, without holding a
worker, until no other day is being ingested or extracted (20 hours at most); days that wait for
their delivery do not count. So a backfill of many days trains once: the first run trains on all
of them, and every later one finds nothing new.

**Does** confounders, dataset, teacher, student, evaluate, gate, publish, report; each task reads
tables or the run's folder and writes its own. Training tasks take the `train` pool; a retry goes
on from the last epoch. With `[schedule] approval`, a person says yes in the UI before `publish`.

**The same data** again is the same run: `anything_new` ends it there, nothing is trained twice. A
run that passed the gate and was not published to its end goes on from where it stopped.

**Refused** by the gate: nothing is published, the current release stays; the alert, the report
and `debcm status` say which rule. That is a success of this DAG, not a failure.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Asset, PartitionedAssetTimetable, dag, get_current_context, task

from pipeline.orchestration.dag_helpers import (
    PATIENCE,
    deadline,
    default_args,
    features_are_quiet,
    folders,
    gate_refused,
    send_metrics,
    tables,
)
from pipeline.settings.load import load_settings

settings = load_settings()
TRAINING_TIME = dt.timedelta(hours=12)
RUNS = folders("runs")


@dag(
    schedule=PartitionedAssetTimetable(assets=Asset("features")),
    catchup=False,
    max_active_runs=1,
    default_args=default_args(settings),
    deadline=deadline(settings),
    doc_md=__doc__,
    tags=["debcm", "nightly"],
)
def debcm_retrain() -> None:
    @task.sensor(
        mode="reschedule",
        poke_interval=5,
        exponential_backoff=True,
        max_wait=60,
        timeout=2 * PATIENCE.total_seconds(),
    )
    def features_quiet() -> bool:
        return features_are_quiet(get_current_context())

    @task(inlets=tables("videos", "music"), outlets=tables("uploader_genres"))
    def confounders() -> str:
        from pipeline import steps

        return str(steps.confounders(steps.newest_day())["as_of"])

    @task(
        inlets=tables("videos", "music", "segments", "visual_features", "audio_features"),
        outlets=RUNS,
    )
    def dataset(as_of: str) -> str:
        from pipeline import steps

        return str(steps.dataset(as_of)["run_id"])

    @task.short_circuit
    def anything_new(run: str) -> bool:
        from pipeline import steps

        return not steps.is_settled(run)

    @task(pool="train", execution_timeout=TRAINING_TIME, inlets=RUNS, outlets=RUNS)
    def teacher(run: str) -> dict[str, Any]:
        from pipeline import steps

        return steps.teacher(run)

    @task(pool="train", execution_timeout=TRAINING_TIME, inlets=RUNS, outlets=RUNS)
    def student(run: str) -> dict[str, Any]:
        from pipeline import steps

        return steps.student(run)

    @task(pool="train", inlets=[*RUNS, *folders("releases")], outlets=RUNS)
    def evaluate(run: str) -> dict[str, Any]:
        from pipeline import steps

        return steps.evaluate(run)

    @task.short_circuit(ignore_downstream_trigger_rules=False, inlets=RUNS, outlets=tables("runs"))
    def gate(run: str) -> bool:
        from pipeline import steps

        decision = steps.gate(run)
        send_metrics(steps.measure_run(decision))
        passed = bool(decision["decision"] != "refuse")
        if not passed:
            gate_refused(get_current_context(), decision)
        return passed

    @task(
        inlets=[*RUNS, *tables("runs")],
        outlets=[Asset("release"), *folders("releases")],
    )
    def publish(run: str) -> dict[str, Any]:
        from pipeline import steps

        return steps.publish(run)

    @task(
        trigger_rule="none_failed",
        inlets=[*RUNS, *tables("runs", "quarantine", "feature_days", "uploader_genres")],
        outlets=folders("reports"),
    )
    def report(run: str) -> dict[str, Any]:
        from pipeline import steps

        return steps.report(run)

    as_of = confounders()
    run = dataset(as_of)
    features_quiet() >> as_of
    decided, published = gate(run), publish(run)
    anything_new(run) >> teacher(run) >> student(run) >> evaluate(run) >> decided
    if settings.schedule.approval:
        approve = ApprovalOperator(
            task_id="approve",
            subject="Publish {{ ti.xcom_pull(task_ids='dataset') }}?",
            body="The gate lets it pass. `debcm gate RUN` prints its figures.",
            execution_timeout=None,
        )
        decided >> approve >> published
    else:
        decided >> published
    published >> report(run)


debcm_retrain()
