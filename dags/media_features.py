"""Turn one landing day into features, every night.

**When** nightly; one run a day of data (its partition), for the day before.

**Does** wait for the day's `_SUCCESS` without holding a worker, read the day into catalogue and
quarantine, plan shards, extract them side by side in the `decode` pool, and account for every
row. It emits the asset `features` for the day, with row counts, rejects and seconds.

**Safe** to clear, to run twice, and to backfill (`airflow backfill create`): what has features is
never decoded again. A landing day that changed after its run is found by `late_days` and gets a
run of its own.

**Fails** when the day never comes (`wait_for_day`), when too many rows are rejected, or when a
row is unaccounted for. `docs/operate.md` says what to do.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.providers.standard.sensors.filesystem import FileSensor
from airflow.sdk import Asset, CronPartitionTimetable, Param, dag, get_current_context, task

from pipeline.orchestration import deadline, default_args
from pipeline.settings import load_settings

settings = load_settings()
DAY = "{{ params.day or partition_key }}"
FEATURES = Asset("features")


@dag(
    schedule=CronPartitionTimetable(
        settings.schedule.nightly, timezone="UTC", run_offset=-1, key_format="%Y-%m-%d"
    ),
    catchup=False,
    max_active_runs=4,
    default_args=default_args(settings),
    deadline=deadline(settings),
    doc_md=__doc__,
    tags=["debcm", "nightly"],
    params={
        "day": Param(
            None,
            type=["null", "string"],
            format="date",
            description="landing day, for a run by hand; empty: the run's partition",
        )
    },
)
def media_features() -> None:
    wait_for_day = FileSensor(
        task_id="wait_for_day",
        filepath=f"{settings.landing.root}/dt={DAY}/_SUCCESS",
        deferrable=True,
        poke_interval=30,
        timeout=dt.timedelta(hours=settings.landing.wait_hours).total_seconds(),
        execution_timeout=None,
    )

    @task
    def ingest(day: str) -> dict[str, Any]:
        from pipeline import steps

        return steps.ingest(day)

    @task
    def plan(day: str) -> list[dict[str, Any]]:
        from pipeline import steps

        return steps.plan([day])

    @task(pool="decode", map_index_template="{{ task.op_kwargs['shard']['label'] }}")
    def extract(shard: dict[str, Any]) -> dict[str, Any]:
        from pipeline import steps

        return steps.extract(shard["plan"], shard["shard"])

    @task(outlets=[FEATURES], trigger_rule="none_failed")
    def check(day: str, ingested: dict[str, Any]) -> dict[str, Any]:
        from pipeline import steps

        checked = steps.check(day)
        event = get_current_context()["outlet_events"][FEATURES]
        event.add_partitions(day)
        event.extra = {"ingested": ingested, "checked": checked}
        return checked

    @task
    def late_days(day: str) -> list[dict[str, str]]:
        from pipeline import steps

        return [{"day": late} for late in steps.late_days(day)]

    ingested = ingest(DAY)
    planned = plan(DAY)
    extracted = extract.expand(shard=planned)
    wait_for_day >> ingested >> planned
    extracted >> check(DAY, ingested)
    TriggerDagRunOperator.partial(
        task_id="run_late_day", trigger_dag_id="media_features", reset_dag_run=False
    ).expand(conf=late_days(DAY))


media_features()
