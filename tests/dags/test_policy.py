"""Policies that every DAG of the checkout must keep."""

from __future__ import annotations

import ast
import datetime as dt
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from pipeline.errors import DiskFullError
from tools.docs_pages import CHECKOUT

NIGHTLY = {"media_features", "debcm_retrain"}
DAGS = NIGHTLY | {"feature_backfill", "lake_upkeep"}
HEAVY = {"torch", "polars", "cv2", "av", "librosa", "matplotlib", "deltalake", "faiss"}


def tasks(bag: Any) -> list[Any]:
    found = [task for dag in bag.dags.values() for task in dag.tasks]
    assert len(found) >= 20
    return found


def test_there_are_exactly_these_dags_and_no_import_error(bag: Any) -> None:
    assert bag.import_errors == {}
    assert set(bag.dags) == DAGS


@pytest.mark.parametrize("dag_id", sorted(DAGS))
def test_a_dag_has_a_page_an_owner_tags_and_no_catchup(bag: Any, dag_id: str) -> None:
    dag = bag.dags[dag_id]
    page = ast.get_docstring(ast.parse((CHECKOUT / "dags" / f"{dag_id}.py").read_text()))
    assert page is not None
    assert page.strip() == dag.doc_md.strip()
    assert "**When**" in page
    assert "**Safe**" in page or "**The same data**" in page
    assert dag.owner == "data-platform"
    assert "debcm" in dag.tags
    assert len(dag.tags) >= 2
    assert dag.catchup is False
    assert dag.max_active_runs <= (32 if dag_id == "media_features" else 1)


@pytest.mark.parametrize("dag_id", sorted(NIGHTLY | {"lake_upkeep"}))
def test_a_scheduled_dag_has_a_deadline(bag: Any, dag_id: str) -> None:
    (alert,) = bag.dags[dag_id].deadline
    assert alert.interval == dt.timedelta(hours=8)
    assert alert.callback.path == "pipeline.orchestration.dag_helpers.alert_run_late"


def test_the_night_is_partitioned_by_day_and_the_retraining_follows_it(bag: Any) -> None:
    nightly = bag.dags["media_features"].timetable
    assert type(nightly).__name__ == "CronPartitionTimetable"
    retrain = bag.dags["debcm_retrain"].timetable
    assert type(retrain).__name__ == "PartitionedAssetTimetable"
    check = bag.dags["media_features"].get_task("check")
    assert "features" in {asset.name for asset in check.outlets}
    assert bag.dags["feature_backfill"].timetable.can_be_scheduled is False


def test_after_a_failed_erasure_upkeep_continues_and_the_run_fails(bag: Any) -> None:
    dag = bag.dags["lake_upkeep"]
    assert dag.get_task("retention").trigger_rule == "all_done"
    assert dag.get_task("compaction").upstream_task_ids == {"retention"}
    (last,) = dag.leaves
    assert last.trigger_rule == "all_success"
    assert "deletions" in last.upstream_task_ids


def test_every_task_has_retries_a_policy_and_an_alert(bag: Any) -> None:
    for task in tasks(bag):
        where = f"{task.dag_id}.{task.task_id}"
        assert task.retries == 3, where
        assert task.owner == "data-platform", where
        assert task.retry_policy is not None, where
        decided = task.retry_policy.evaluate(DiskFullError("full"), 1, 3)
        assert decided.action.value == "fail", where
        callbacks = task.on_failure_callback
        (callback,) = callbacks if isinstance(callbacks, list | tuple) else [callbacks]
        assert callback.__name__ == "alert_task_failed", where


def test_every_task_has_a_timeout(bag: Any) -> None:
    unlimited = []
    for task in tasks(bag):
        if task.execution_timeout is None:
            unlimited.append(task.task_id)
        else:
            assert task.execution_timeout <= dt.timedelta(hours=12)
    # A sensor that has handed its wait to the triggerer is bounded by `timeout` instead.
    assert unlimited == ["wait_for_day"]
    sensor = bag.dags["media_features"].get_task("wait_for_day")
    assert sensor.deferrable is True
    assert sensor.timeout == 6 * 3600


def test_heavy_work_takes_a_pool_that_exists(bag: Any) -> None:
    pools = json.loads((CHECKOUT / "deploy" / "pools.json").read_text())
    pool_of = {(task.dag_id, task.task_id): task.pool for task in tasks(bag)}
    used = set(pool_of.values()) - {"default_pool"}
    assert used == set(pools) == {"decode", "train"}
    assert {key for key, pool in pool_of.items() if pool == "decode"} == {
        ("media_features", "extract"),
        ("feature_backfill", "extract"),
    }
    assert {key[1] for key, pool in pool_of.items() if pool == "train"} == {
        "teacher",
        "student",
        "evaluate",
    }


def test_a_backfill_leaves_pool_slots_for_the_night(bag: Any) -> None:
    slow = bag.dags["feature_backfill"].get_task("extract")
    night = bag.dags["media_features"].get_task("extract")
    slots = json.loads((CHECKOUT / "deploy" / "pools.json").read_text())["decode"]["slots"]
    assert slow.max_active_tis_per_dag * slow.pool_slots < slots
    assert slow.priority_weight < night.priority_weight


def test_a_backfill_is_a_dry_run_by_default(bag: Any) -> None:
    params = bag.dags["feature_backfill"].params
    assert params["dry_run"] is True
    assert set(params) == {"first_day", "last_day", "extractor", "kind", "dry_run"}


def test_mapped_shards_have_labels(bag: Any) -> None:
    for dag_id in ("media_features", "feature_backfill"):
        template = bag.dags[dag_id].get_task("extract").partial_kwargs["map_index_template"]
        assert "label" in template


def test_tasks_say_which_tables_they_read_and_write(bag: Any) -> None:
    lineage = {
        (task.dag_id, task.task_id): {asset.name for asset in [*task.inlets, *task.outlets]}
        for task in tasks(bag)
    }
    assert {"table.videos", "table.music", "table.quarantine"} <= lineage[
        "media_features", "ingest"
    ]
    assert "table.visual_features" in lineage["media_features", "extract"]
    assert "table.uploader_genres" in lineage["debcm_retrain", "confounders"]
    assert "folder.releases" in lineage["debcm_retrain", "publish"]


PARSE = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
from airflow.dag_processing.dagbag import DagBag
started = time.process_time()
bag = DagBag(sys.argv[1])
seconds = time.process_time() - started
heavy = sorted(set(sys.argv[2].split(",")) & set(sys.modules))
before_publish = sorted(bag.dags["debcm_retrain"].get_task("publish").upstream_task_ids)
print(json.dumps([len(bag.dags), seconds, heavy, before_publish]))
"""


def parsed(**settings: str) -> Any:
    """Parse the DAG files in a separate process."""
    done = subprocess.run(
        [sys.executable, "-c", PARSE, str(CHECKOUT / "dags"), ",".join(sorted(HEAVY))],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_parsing_takes_under_two_seconds_and_imports_nothing_heavy() -> None:
    count, seconds, heavy, before_publish = parsed()
    assert count == len(DAGS)
    assert seconds < 2.0
    assert heavy == []
    assert "approve" not in before_publish


def test_with_approval_a_person_decides_before_publish() -> None:
    count, _, _, before_publish = parsed(DEBCM_SCHEDULE__APPROVAL="true")
    assert count == len(DAGS)
    assert before_publish == ["approve", "dataset"]


def test_dag_files_are_wiring() -> None:
    """Functions of DAG files are short, and top-level imports are few."""
    for path in sorted((CHECKOUT / "dags").glob("*.py")):
        tree = ast.parse(path.read_text())
        for outer in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
            inner = [node for node in outer.body if isinstance(node, ast.FunctionDef)]
            assert inner, path.name
            for node in inner:
                assert node.end_lineno is not None
                assert node.end_lineno - node.lineno < 20, f"{path.name}: {node.name}"
        imported = {
            name.name if isinstance(node, ast.Import) else (node.module or "")
            for node in tree.body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in node.names
        }
        top = {name.split(".")[0] for name in imported}
        assert top <= {"__future__", "datetime", "typing", "airflow", "pipeline"}, path.name
