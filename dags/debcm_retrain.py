"""Train DebCM on all features, and publish the model if it passes the gate.

**When** the features of a day are ready (asset `features`). `features_quiet` waits until no other
day is in progress, for at most 20 hours, without occupying a worker. Days that wait for their
delivery do not count. So a backfill of many days trains once: the first run trains on all days,
and the later ones find nothing new. The partition key is the day that started the DAG run. The note
of a finished DAG run names the newest day of its data, as the run id and the release do.

**Does** confounders, dataset, teacher, student, evaluate, gate, publish, report. Each task reads
tables or the run's folder and writes its own results. Training tasks use the pool `train`; a retry
continues after the last finished epoch. With `[schedule] approval`, a person must approve the
release in the UI before `publish`. If nobody answers within 20 hours, `approve` fails, nothing is
published, and the next retraining can start.

**The same data** gives the same run id. If that run was already refused or published,
`anything_new` ends the DAG run, so nothing is trained twice. If it passed the gate and publishing
failed, the tasks continue where it stopped.

**Refused** by the gate: nothing is published and the current release stays. The alert, the report
and `debcm status` name the broken rules. The DAG run still succeeds.

**Safe** to clear at any task: every task is idempotent.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Asset, PartitionedAssetTimetable, dag, get_current_context, task

from pipeline.orchestration.dag_helpers import (
    MAX_APPROVAL_WAIT,
    MAX_EXTRACTION_WAIT,
    alert_gate_refused,
    deadline_alert,
    default_args,
    folder_assets,
    may_retrain,
    send_metrics,
    table_assets,
)
from pipeline.settings.load import load_settings

settings = load_settings()
TRAINING_TIME = dt.timedelta(hours=12)
RUNS = folder_assets("runs")


@dag(
    schedule=PartitionedAssetTimetable(assets=Asset("features")),
    catchup=False,
    max_active_runs=1,
    default_args=default_args(settings),
    deadline=deadline_alert(settings),
    doc_md=__doc__,
    tags=["debcm", "nightly"],
)
def debcm_retrain() -> None:
    @task.sensor(
        mode="reschedule",
        poke_interval=5,
        exponential_backoff=True,
        max_wait=60,
        timeout=2 * MAX_EXTRACTION_WAIT.total_seconds(),
    )
    def features_quiet() -> bool:
        return may_retrain(get_current_context())

    @task(inlets=table_assets("videos", "music"), outlets=table_assets("uploader_genres"))
    def confounders() -> str:
        from pipeline import steps

        return str(steps.confounders(steps.newest_day())["as_of"])

    @task(
        inlets=table_assets("videos", "music", "segments", "visual_features", "audio_features"),
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

    @task(pool="train", inlets=[*RUNS, *folder_assets("releases")], outlets=RUNS)
    def evaluate(run: str) -> dict[str, Any]:
        from pipeline import steps

        return steps.evaluate(run)

    @task.short_circuit(
        ignore_downstream_trigger_rules=False, inlets=RUNS, outlets=table_assets("runs")
    )
    def gate(run: str) -> bool:
        from pipeline import steps

        decision = steps.gate(run)
        send_metrics(steps.measure_run(decision))
        passed = bool(decision["decision"] != "refuse")
        if not passed:
            alert_gate_refused(get_current_context(), decision)
        return passed

    @task(
        inlets=[*RUNS, *table_assets("runs")],
        outlets=[Asset("release"), *folder_assets("releases")],
    )
    def publish(run: str) -> dict[str, Any]:
        from pipeline import steps

        return steps.publish(run)

    @task(
        trigger_rule="none_failed",
        inlets=[*RUNS, *table_assets("runs", "quarantine", "feature_days", "uploader_genres")],
        outlets=folder_assets("reports"),
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
            body="The run passed the gate. `debcm gate RUN` prints its figures.",
            execution_timeout=None,
            response_timeout=MAX_APPROVAL_WAIT,
        )
        decided >> approve >> published
    else:
        decided >> published
    published >> report(run)


debcm_retrain()
