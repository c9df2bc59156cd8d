"""Nights to disturb: what the DAGs call, in their order."""

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
    """Landing to features, two days, and upkeep."""
    for day in map(str, DAYS[:2]):
        run_day(call, day)
    request_deletion(site.lake, "video", "v2")
    upkeep(call)


def model_night(site: Site, call: Call) -> None:
    """Features to releases, three of them, a deletion, and upkeep."""
    for day in map(str, DAYS):
        call("publish", judged(call, day))
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
    """Two days on, when no task can be writing any more."""
    age(site.root)
    upkeep(site.steps.run)


def statistics_night(site: Site, call: Call) -> None:
    """The short half of a retraining, and upkeep."""
    call("confounders", str(DAYS[0]))
    call("dataset", str(DAYS[0]))
    upkeep(call)


def run_day(call: Call, day: str) -> None:
    """A night of `media_features`."""
    call("ingest", day)
    for shard in call("plan", [day]):
        call("extract", shard["plan"], shard["shard"])
    call("check", day)


def run_backfill(call: Call, first: str, last: str) -> None:
    """A run of `feature_backfill`."""
    for shard in call("plan_backfill", first, last, "current", "both", False):
        call("extract", shard["plan"], shard["shard"], shard["extractor"], shard["kinds"])


def judged(call: Call, day: str) -> str:
    """A night of `debcm_retrain` up to its gate; the run that it lets through."""
    call("confounders", day)
    run_id = str(call("dataset", day)["run_id"])
    for step in ("teacher", "student", "evaluate"):
        call(step, run_id)
    assert call("gate", run_id)["decision"] == "publish"
    return run_id
