"""Extract features of days already ingested, by the extractor of your choice.

**When** by hand. Parameters: first and last day, extractor, kind, dry run. They are validated
before anything runs. A dry run (the default) prints clips, minutes, expected CPU hours and the
shards, and stops there.

**Extractors** `current`, or a name from `[candidates]` of the settings: a candidate's features
live beside the current ones until the settings select them.

**Safe** to stop at any moment and to start again: what has features is not decoded again. It
works on one shard at a time, and waits for the night's whenever both want the `decode` pool.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from pipeline.orchestration.dag_helpers import default_args, tables
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
            description="current, or a name from [candidates] of the settings",
        ),
        "kind": Param("both", enum=["both", "visual", "audio"], description="which features"),
        "dry_run": Param(True, type="boolean", description="only say what would be done"),
    },
)
def feature_backfill() -> None:
    @task(inlets=tables("videos", "music", "segments"), outlets=tables("shards"))
    def plan() -> list[dict[str, Any]]:
        from pipeline import steps

        return steps.plan_backfill(**get_current_context()["params"])

    @task(
        pool="decode",
        map_index_template="{{ task.op_kwargs['shard']['label'] }}",
        max_active_tis_per_dag=1,
        priority_weight=1,
        weight_rule="absolute",
        inlets=tables("shards"),
        outlets=tables(
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
