"""Calls the steps of whole nights in the order of the DAGs; tests disturb these nights."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

from pipeline.lake.catalog import id_hash
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from tests.faults.fault_harness import age
from tests.faults.fault_sites import DAYS, Site

Call = Callable[..., Any]
Night = Callable[[Site, Call], None]


def media_night(site: Site, call: Call) -> None:
    """Run two days from landing to features, a deletion, and upkeep."""
    for day in map(str, DAYS[:2]):
        run_day(call, day)
    request_deletion(site.lake, "video", "v2")
    upkeep(call)


def model_night(site: Site, call: Call) -> None:
    """Run three days from features to releases, a deletion, and upkeep."""
    for day in map(str, DAYS):
        call("publish", run_to_gate(call, day))
    request_deletion(site.lake, "uploader", "u00000003")
    upkeep(call)


def upkeep(call: Call) -> None:
    for step in ("apply_deletions", "retention", "compaction"):
        call(step)


def request_deletion(lake: Lake, kind: str, name: str) -> None:
    now = dt.datetime(2026, 3, 4, tzinfo=dt.UTC)
    row = {"kind": kind, "id_hash": id_hash(kind, name), "requested_at": now, "dt": DAYS[2]}
    lake.add("deletions", TABLES["deletions"].frame([row]))


def upkeep_later(site: Site) -> None:
    """Run upkeep as if two days later, when no task can still be writing."""
    age(site.root)
    upkeep(site.steps.run)


def statistics_night(site: Site, call: Call) -> None:
    """Run the first two steps of a retraining, and upkeep."""
    call("confounders", str(DAYS[0]))
    call("dataset", str(DAYS[0]))
    upkeep(call)


def run_day(call: Call, day: str) -> None:
    """Run the steps of `media_features` for a day."""
    call("ingest", day)
    for shard in call("plan", [day]):
        call("extract", shard["plan"], shard["shard"])
    call("check", day)


def run_backfill(call: Call, first: str, last: str) -> None:
    """Run the steps of `feature_backfill` for a range of days."""
    for shard in call("plan_backfill", first, last, "current", "both", False):
        call("extract", shard["plan"], shard["shard"], shard["extractor"], shard["kinds"])


def run_to_gate(call: Call, day: str) -> str:
    """Run the steps of `debcm_retrain` up to the gate; return the run id that passed it."""
    call("confounders", day)
    run_id = str(call("dataset", day)["run_id"])
    for step in ("teacher", "student", "evaluate"):
        call(step, run_id)
    assert call("gate", run_id)["decision"] == "publish"
    return run_id
