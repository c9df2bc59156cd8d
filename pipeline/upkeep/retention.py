"""What keeps a lake small: leftovers swept, old runs and plans removed, tables compacted."""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from pipeline.context import Context
from pipeline.lake.table_sizes import live_files
from pipeline.lake.tables import Lake, sql_literal
from pipeline.publishing.history import retire
from pipeline.releases.current import run_id_of
from pipeline.settings.load import Settings
from pipeline.storage.folder import LEFTOVER_SECONDS
from pipeline.storage.store import Store

log = logging.getLogger(__name__)

# A plan is of no use once its run is over; a cleared task of last week may still ask for it.
PLAN_DAYS = 14
# Reports compare preferences with those of the previous weeks.
PREFERENCE_DAYS = 35


@dataclass(frozen=True)
class RetentionSummary:
    """What was removed, or would be.

    Attributes:
        leftovers: folders that killed writers had left aside; a dry run does not look for them.
        releases: releases past their time.
        runs: runs, with their reports, whose release is gone or never was.
        plans: extraction plans nobody can be working on.
        preferences: days of table `uploader_genres`.
    """

    leftovers: tuple[str, ...]
    releases: tuple[str, ...]
    runs: tuple[str, ...]
    plans: int
    preferences: int


def run(context: Context, *, dry_run: bool = False) -> RetentionSummary:
    """Remove what killed tasks left, and what is past its time by the settings.

    Kept are the runs of every kept release, the newest `[release] keep` runs, and those that a
    step may be working on. A dry run only says what would go.

    Raises:
        WriteConflictError: other writers won every attempt.
    """
    settings, lake, store = context.settings, context.lake, context.store
    releases = retire(settings, store, dry_run=dry_run)
    runs = _old_runs(settings, store, releases)
    plans = _old_plans(lake)
    preferences = _old_preferences(lake)
    leftovers: list[str] = []
    if not dry_run:
        leftovers = store.sweep(time.time() - LEFTOVER_SECONDS)
        for run in runs:
            _remove_run(store, run)
        if plans:
            lake.delete("shards", f"plan IN ({', '.join(map(sql_literal, plans))})")
        if preferences:
            lake.delete("uploader_genres", f"as_of <= {sql_literal(preferences[-1])}")
    summary = RetentionSummary(
        tuple(leftovers), tuple(releases), tuple(runs), len(plans), len(preferences)
    )
    log.info("%s", summary)
    return summary


def _old_runs(settings: Settings, store: Store, retired: Sequence[str]) -> list[str]:
    released = {run_id_of(name) for name in store.names("releases") if name not in retired}
    # A run's name begins with its day.
    runs = store.children("runs")
    kept = released | set(runs[-settings.release.keep :])
    in_use = time.time() - LEFTOVER_SECONDS
    return [r for r in runs if r not in kept and store.modified(f"runs/{r}") < in_use]


def _remove_run(store: Store, run: str) -> None:
    # A run is known by its dataset, so that goes last: a killed removal is found again.
    for child in sorted(store.children(f"runs/{run}"), key=lambda name: name == "dataset"):
        store.remove(f"runs/{run}/{child}")
    store.remove(f"runs/{run}")
    store.remove(f"reports/{run}")


def _old_plans(lake: Lake) -> list[str]:
    delta = lake.delta("shards")
    if delta is None:
        return []
    written = (
        live_files(delta)
        .group_by("plan")
        .agg(pl.from_epoch(pl.col("modification_time").max(), "ms").dt.replace_time_zone("UTC"))
    )
    before = dt.datetime.now(dt.UTC) - dt.timedelta(days=PLAN_DAYS)
    old: list[str] = written.filter(pl.col("modification_time") < before)["plan"].sort().to_list()
    return old


def _old_preferences(lake: Lake) -> list[dt.date]:
    found = lake.collect(lake.scan("uploader_genres").select("as_of").unique(), "uploader_genres")
    days: list[dt.date] = found["as_of"].sort().to_list()
    return [day for day in days if day < days[-1] - dt.timedelta(days=PREFERENCE_DAYS)]
