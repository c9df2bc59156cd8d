"""Turn one landing day into features, every night.

**When** nightly, for the day before. Each run has one landing day as its partition.

**Does** wait for the day's `_SUCCESS` file without occupying a worker or delaying other days,
ingest the day into the catalogue and quarantine, plan shards, extract them in parallel in the pool
`decode`, and check that every row is accounted for. It emits the asset `features` for the day, with
row counts and metrics.

**Late days**: `late_days` finds landing days that changed or arrived after their night, as far back
as `[landing] lookback_days`, and `run_late_day` starts a run for each.

**Safe** to clear, to run twice, and to backfill (`airflow backfill create`): clips with features
are not decoded again.

**Fails** if the day does not arrive (`wait_for_day`), if too many rows are rejected, or if a row is
unaccounted for. `docs/operate.md` says what to do.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Asset, CronPartitionTimetable, Param, dag, get_current_context, task

from pipeline.orchestration.dag_helpers import (
    LandingDaySensor,
    deadline_alert,
    default_args,
    landing_assets,
    send_metrics,
    table_assets,
)
from pipeline.settings.load import load_settings

settings = load_settings()
DAY = "{{ params.day or partition_key }}"
FEATURES = Asset("features")
# Days that are in the same task at a time. Days that wait for their delivery do not count.
DAYS_AT_ONCE = 4
CATALOGUE = table_assets("videos", "music", "segments")
EXTRACTED = table_assets(
    "visual_features", "visual_frames", "audio_features", "mel_frames", "failures"
)


@dag(
    schedule=CronPartitionTimetable(
        settings.schedule.nightly, timezone="UTC", run_offset=-1, key_format="%Y-%m-%d"
    ),
    catchup=False,
    # Each day that waits for its delivery holds one. `wait_hours` allows at most eight such nights.
    max_active_runs=32,
    default_args=default_args(settings),
    deadline=deadline_alert(settings),
    doc_md=__doc__,
    tags=["debcm", "nightly"],
    params={
        "day": Param(
            None,
            type=["null", "string"],
            format="date",
            description="Landing day. Required by hand, unless you give a partition key.",
        )
    },
)
def media_features() -> None:
    wait_for_day = LandingDaySensor(
        task_id="wait_for_day",
        filepath=f"{settings.landing.root}/dt={DAY}/_SUCCESS",
        deferrable=True,
        poke_interval=30,
        timeout=dt.timedelta(hours=settings.landing.wait_hours).total_seconds(),
        execution_timeout=None,
    )

    @task(
        max_active_tis_per_dag=DAYS_AT_ONCE,
        inlets=landing_assets(),
        outlets=[*CATALOGUE, *table_assets("quarantine", "deletions", "landing_days")],
    )
    def ingest(day: str) -> dict[str, Any]:
        from pipeline import steps

        return steps.ingest(day)

    @task(max_active_tis_per_dag=DAYS_AT_ONCE, inlets=CATALOGUE, outlets=table_assets("shards"))
    def plan(day: str) -> list[dict[str, Any]]:
        from pipeline import steps

        return steps.plan([day])

    @task(
        pool="decode",
        map_index_template="{{ task.op_kwargs['shard']['label'] }}",
        priority_weight=10,
        inlets=table_assets("shards"),
        outlets=EXTRACTED,
    )
    def extract(shard: dict[str, Any]) -> dict[str, Any]:
        from pipeline import steps

        return steps.extract(shard["plan"], shard["shard"])

    @task(
        trigger_rule="none_failed",
        max_active_tis_per_dag=DAYS_AT_ONCE,
        inlets=[*CATALOGUE, *EXTRACTED],
        outlets=[FEATURES, *table_assets("feature_days", "quarantine")],
    )
    def check(day: str, ingested: dict[str, Any], extracted: Any) -> dict[str, Any]:
        from pipeline import steps

        shards = list(extracted or [])
        checked = steps.check(day)
        metrics = steps.measure_day(ingested, checked, shards)
        send_metrics(metrics)
        event = get_current_context()["outlet_events"][FEATURES]
        event.add_partitions(day)
        event.extra = {"ingested": ingested, "checked": checked, "metrics": metrics}
        return checked

    @task
    def late_days(day: str) -> list[dict[str, Any]]:
        from pipeline import steps

        run = get_current_context()["dag_run"]
        # Only nightly runs look back, not backfills and not the runs of late days.
        if run.run_type == "backfill" or not run.partition_key:
            return []
        return [
            {"conf": {"day": late}, "trigger_run_id": f"late__{late}__{day}__{delivery[:8]}"}
            for late, delivery in steps.late_days(day).items()
        ]

    ingested = ingest(DAY)
    planned = plan(DAY)
    wait_for_day >> ingested >> planned
    check(DAY, ingested, extract.expand(shard=planned))
    TriggerDagRunOperator.partial(
        task_id="run_late_day",
        trigger_dag_id="media_features",
        skip_when_already_exists=True,
        map_index_template="{{ task.conf['day'] }}",
    ).expand_kwargs(late_days(DAY))


media_features()
