"""Retrain DebCM on everything that has features, and publish if the gate lets it.

**When** a day's features are ready (asset `features`). After a backfill of many days it trains
once: a run that finds other `media_features` runs still under way leaves the work to the last.

**Does** confounders, dataset, teacher, student, evaluate, gate, publish; each task reads tables
or the run's folder and writes its own. Training tasks take the `train` pool; a retry goes on
from the last epoch.

**The same data** again is the same run: nothing is trained twice, nothing published twice.

**Refused** by the gate: nothing is published, the current release stays, the alert and
`debcm status` say which rule. That is a success of this DAG, not a failure.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from airflow.sdk import Asset, PartitionedAssetTimetable, dag, get_current_context, task

from pipeline.orchestration import deadline, default_args
from pipeline.settings import load_settings

settings = load_settings()
TRAINING_TIME = dt.timedelta(hours=12)


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
    @task.short_circuit
    def nothing_else_under_way() -> bool:
        states = ["queued", "running"]
        task_instance = get_current_context()["ti"]
        return task_instance.get_dr_count(dag_id="media_features", states=states) == 0

    @task
    def confounders() -> str:
        from pipeline import steps

        return str(steps.confounders(steps.newest_day())["as_of"])

    @task
    def dataset(as_of: str) -> str:
        from pipeline import steps

        return str(steps.dataset(as_of)["run_id"])

    @task(pool="train", execution_timeout=TRAINING_TIME)
    def teacher(run: str) -> dict[str, Any]:
        from pipeline import steps

        return steps.teacher(run)

    @task(pool="train", execution_timeout=TRAINING_TIME)
    def student(run: str) -> dict[str, Any]:
        from pipeline import steps

        return steps.student(run)

    @task(pool="train")
    def evaluate(run: str) -> dict[str, Any]:
        from pipeline import steps

        return steps.evaluate(run)

    @task.short_circuit
    def gate(run: str) -> bool:
        from pipeline import steps

        return bool(steps.gate(run)["decision"] != "refuse")

    @task(outlets=[Asset("release")])
    def publish(run: str) -> dict[str, Any]:
        from pipeline import steps

        return steps.publish(run)

    as_of = confounders()
    run = dataset(as_of)
    nothing_else_under_way() >> as_of
    teacher(run) >> student(run) >> evaluate(run) >> gate(run) >> publish(run)


debcm_retrain()
