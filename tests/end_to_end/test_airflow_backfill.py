"""`feature_backfill` in a real Airflow: a dry run, a resumed run, and a concurrent night."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import polars as pl
import pytest

from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.orchestration.local_airflow import environment, free_port
from pipeline.settings.sections import LakeSettings
from tests.helpers.real_airflow import DAYS, Platform, Watched, debcm, small_settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

CANDIDATES = {"fewer": {"visual": {"frames": 2, "blocks": ["light"]}}}
ASKED = {"first_day": str(DAYS[0]), "last_day": str(DAYS[-1]), "kind": "visual"}


@dataclass
class Backfill:
    """Results that the tests check.

    Attributes:
        watched: the running Airflow.
        lake: its lake.
        dry: task instances of the dry run by task id.
        rows_when_stopped: number of feature rows when the first run was stopped.
        again: shards of the second run, which has the same parameters.
        night: shards of the night that ran at the same time as the second run.
    """

    watched: Watched
    lake: Lake
    dry: dict[str, list[dict[str, Any]]]
    rows_when_stopped: int
    again: list[dict[str, Any]]
    night: list[dict[str, Any]]


def dag_run(seen: Watched, run_id: str, dag_id: str = "feature_backfill") -> dict[str, Any]:
    (run,) = [run for run in seen.runs(dag_id) if run["dag_run_id"] == run_id]
    return run


@pytest.fixture(scope="module")
def backfill(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backfill]:
    home = tmp_path_factory.mktemp("backfill")
    variables = small_settings(platform.root, home / "lake") | {
        "DEBCM_CANDIDATES": json.dumps(CANDIDATES),
        # Two clips per shard, one per commit.
        "DEBCM_EXTRACT__SHARD_CPU_SECONDS": "1.2",
        "DEBCM_EXTRACT__COMMIT_CLIPS": "1",
    }
    for day in DAYS:
        debcm(["ingest", "--day", str(day)], variables)
    lake = Lake(LakeSettings(root=str(home / "lake")))
    env = environment(home=home / "airflow", port=free_port()) | variables
    with Watched.start(env) as seen:
        seen.unpause("feature_backfill", "media_features")
        dry = seen.airflow.trigger("feature_backfill", conf=ASKED | {"extractor": "fewer"})
        seen.wait_until(lambda: dag_run(seen, dry)["state"] == "success", "the dry run")
        assert lake.read("visual_features").is_empty()
        wanted = ASKED | {"extractor": "fewer", "dry_run": False}
        first = seen.airflow.trigger("feature_backfill", conf=wanted)

        def shards(run_id: str) -> list[dict[str, Any]]:
            return seen.tasks(dag_run(seen, run_id)).get("extract", [])

        def done() -> int:
            return sum(shard["state"] == "success" for shard in shards(first))

        seen.wait_until(lambda: done() >= 2, "two shards of the backfill")
        seen.airflow.call("PATCH", f"/dags/feature_backfill/dagRuns/{first}", {"state": "failed"})
        stopped = lake.read("visual_features").height
        second = seen.airflow.trigger("feature_backfill", conf=wanted)
        seen.wait_until(lambda: bool(shards(second)), "the second run's shards")
        night = seen.airflow.trigger("media_features", partition_key=str(DAYS[0]))
        seen.wait_until(lambda: dag_run(seen, second)["state"] == "success", "the backfill to end")
        seen.wait_until(
            lambda: dag_run(seen, night, "media_features")["state"] == "success", "the night"
        )
        yield Backfill(
            seen,
            lake,
            seen.tasks(dag_run(seen, dry)),
            stopped,
            shards(second),
            seen.tasks(dag_run(seen, night, "media_features"))["extract"],
        )


def of_candidate(backfill: Backfill, table: str) -> pl.DataFrame:
    return backfill.lake.read(table, pl.col("extractor").str.starts_with("efficientnet-lite0-2f"))


def test_a_dry_run_logs_the_plan_and_extracts_nothing(backfill: Backfill) -> None:
    (plan,) = backfill.dry["plan"]
    assert plan["state"] == "success"
    assert [task["state"] for task in backfill.dry["extract"]] == ["skipped"]
    path = f"/dags/feature_backfill/dagRuns/{plan['dag_run_id']}/taskInstances/plan/logs/1"
    log = json.dumps(backfill.watched.airflow.call("GET", path))
    assert "21 clips" in log
    assert "CPU hours expected" in log
    assert "shard 0: 2 clips, 0 min, 1 CPU s expected" in log


def test_a_stopped_backfill_resumes_and_extracts_no_clip_twice(backfill: Backfill) -> None:
    rows = of_candidate(backfill, "visual_features")
    # Per day: six videos and a music video's segment. The invalid file is not in the catalogue.
    assert rows.height == rows["content_hash"].n_unique() == 21
    assert 4 <= backfill.rows_when_stopped < 21
    # "shard 3: 2 clips, 0 min"
    planned = sum(int(shard["rendered_map_index"].split()[2]) for shard in backfill.again)
    assert 1 <= planned <= 21 - backfill.rows_when_stopped
    frames = of_candidate(backfill, "visual_frames")
    assert not frames.select(pl.struct(TABLES["visual_frames"].key).is_duplicated().any()).item()


def test_a_backfill_takes_one_slot_and_does_not_block_the_night(backfill: Backfill) -> None:
    spans = sorted((shard["start_date"], shard["end_date"]) for shard in backfill.again)
    assert len(spans) >= 4
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    last = max(end for _, end in spans)
    assert any(shard["start_date"] < last for shard in backfill.night)
    assert {shard["pool"] for shard in backfill.again + backfill.night} == {"decode"}


def test_the_night_and_the_candidate_write_separate_rows(backfill: Backfill) -> None:
    rows = backfill.lake.read("visual_features", pl.col("dt") == DAYS[0])
    counts = dict(rows.group_by("extractor").len().iter_rows())
    assert sorted(counts.values()) == [7, 7]
