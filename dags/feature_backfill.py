"""Extract features of ingested days again, with the extractor that you choose.

**When** you trigger it by hand. Parameters: first and last day, extractor, kind, dry run. They are
validated before any work. A dry run (the default) prints the number of clips, minutes, expected CPU
hours and shards, and then stops.

**Extractors**: `current`, or a name from `[candidates]` in the settings. A candidate's features are
stored beside the current ones until the settings select it.

**Safe** to stop at any moment and to start again: clips with features are not decoded again. It
extracts one shard at a time, and the nightly shards have priority in the pool `decode`.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from pipeline.orchestration.dag_helpers import default_args, table_assets
from pipeline.settings.load import load_settings

settings = load_settings()


@dag(
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args=default_args(settings),
    doc_md=__doc__,
    tags=["debcm", "by hand"],
    params={
        "first_day": Param(type="string", format="date", description="first landing day"),
        "last_day": Param(type="string", format="date", description="last landing day"),
        "extractor": Param(
            "current",
            enum=["current", *settings.candidates],
            description="current, or a name from [candidates] in the settings",
        ),
        "kind": Param("both", enum=["both", "visual", "audio"], description="which features"),
        "dry_run": Param(True, type="boolean", description="only print the plan"),
    },
)
def feature_backfill() -> None:
    @task(inlets=table_assets("videos", "music", "segments"), outlets=table_assets("shards"))
    def plan() -> list[dict[str, Any]]:
        from pipeline import steps

        return steps.plan_backfill(**get_current_context()["params"])

    @task(
        pool="decode",
        map_index_template="{{ task.op_kwargs['shard']['label'] }}",
        max_active_tis_per_dag=1,
        priority_weight=1,
        weight_rule="absolute",
        inlets=table_assets("shards"),
        outlets=table_assets(
            "visual_features", "visual_frames", "audio_features", "mel_frames", "failures"
        ),
    )
    def extract(shard: dict[str, Any]) -> dict[str, Any]:
        from pipeline import steps

        return steps.extract(
            shard["plan"], shard["shard"], shard["extractor"], tuple(shard["kinds"])
        )

    extract.expand(shard=plan())


feature_backfill()
