"""Erase what was requested, remove what has expired, and compact the tables.

**When** daily at noon UTC (`[schedule] upkeep`), so a deletion request waits at most a day.

**Does**, in this order:

1. `deletions` reads the deletion requests of every complete landing day, whatever its age. It
   erases the items from every table, run, report and release.
2. `retention` removes folders left by killed tasks, and expired releases, runs and plans.
3. `compaction` merges small files and removes old versions of the tables.
4. `sizes` reports rows, files and bytes per table.

If an item cannot be erased everywhere, for example because a release is damaged, `retention` and
`compaction` still run, and the DAG run fails.

**Safe** at any time: readers of the current release are not disturbed.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import CronTriggerTimetable, dag, task

from pipeline.orchestration.dag_helpers import (
    deadline_alert,
    default_args,
    folder_assets,
    landing_assets,
    table_assets,
)
from pipeline.settings.load import load_settings

settings = load_settings()


@dag(
    schedule=CronTriggerTimetable(settings.schedule.upkeep, timezone="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args=default_args(settings),
    deadline=deadline_alert(settings),
    doc_md=__doc__,
    tags=["debcm", "daily"],
)
def lake_upkeep() -> None:
    @task(
        inlets=[*landing_assets(), *table_assets("deletions")],
        outlets=[
            *table_assets("videos", "music", "segments", "visual_features", "audio_features"),
            *folder_assets("releases", "runs"),
        ],
    )
    def deletions() -> dict[str, Any]:
        from pipeline import steps

        return steps.apply_deletions()

    # Runs after a failed erasure too: what it did erase must also leave the tables' old versions.
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
    # The last task decides whether the DAG run fails: it does not run if deletions failed.
    erased >> reported


lake_upkeep()
