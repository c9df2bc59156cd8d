"""Keep the lake small, tidy and lawful, once a day.

**When** daily, at noon: a deletion request waits a day at most.

**Does**, in this order: deletion requests reach every table, model and release; folders left
aside by killed tasks are removed; old releases and runs are removed by the retention rules;
tables are compacted and their old versions vacuumed; sizes are reported. Where a deletion cannot
be carried out whole, say because of a damaged release, the rest is done and the run fails.

**Safe** at any time: readers of the current release are not disturbed.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import CronTriggerTimetable, dag, task

from pipeline.orchestration.dag_helpers import deadline, default_args, folders, tables
from pipeline.settings.load import load_settings

settings = load_settings()


@dag(
    schedule=CronTriggerTimetable(settings.schedule.upkeep, timezone="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args=default_args(settings),
    deadline=deadline(settings),
    doc_md=__doc__,
    tags=["debcm", "daily"],
)
def lake_upkeep() -> None:
    @task(
        inlets=tables("deletions"),
        outlets=[
            *tables("videos", "music", "segments", "visual_features", "audio_features"),
            *folders("releases", "runs"),
        ],
    )
    def deletions() -> dict[str, Any]:
        from pipeline import steps

        return steps.apply_deletions()

    # What deletions did reach must leave the old versions of tables too.
    @task(trigger_rule="all_done")
    def retention() -> dict[str, Any]:
        from pipeline import steps

        return steps.retention()

    @task
    def compaction() -> dict[str, Any]:
        from pipeline import steps

        return steps.compaction()

    @task
    def sizes() -> dict[str, Any]:
        from pipeline import steps

        return steps.sizes()

    erased, reported = deletions(), sizes()
    erased >> retention() >> compaction() >> reported
    # A run is what its last task is: this one is not run where deletions failed.
    erased >> reported


lake_upkeep()
