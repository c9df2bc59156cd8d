"""Removes expired releases, runs, plans and preferences, and the leftovers of killed tasks."""

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

# A task that is cleared days later still needs its plan.
PLAN_DAYS = 14
# Reports compare preferences with those of the previous four weeks.
PREFERENCE_DAYS = 35


@dataclass(frozen=True)
class RetentionSummary:
    """What was removed, or would be removed in a dry run.

    Attributes:
        leftovers: unfinished folders of killed writers; a dry run does not look for them.
        releases: ids of expired releases.
        runs: ids of expired runs, removed with their reports.
        plans: number of expired extraction plans.
        preferences: number of expired days in table `uploader_genres`.
    """

    leftovers: tuple[str, ...]
    releases: tuple[str, ...]
    runs: tuple[str, ...]
    plans: int
    preferences: int


def run(context: Context, *, dry_run: bool = False) -> RetentionSummary:
    """Remove what killed tasks left behind, and everything that has expired.

    The runs of kept releases, the newest `[release] keep` runs, and runs that a step may be using
    are kept.

    Args:
        context: settings, lake and store.
        dry_run: remove nothing; only return what would be removed.

    Raises:
        WriteConflictError: other writers won every attempt.
    """
    settings, lake, store = context.settings, context.lake, context.store
    releases = retire(settings, store, dry_run=dry_run)
    runs = _expired_runs(settings, store, releases)
    plans = _expired_plans(lake)
    preferences = _expired_preferences(lake)
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
    log.info("%s: %s", "would remove" if dry_run else "removed", summary)
    return summary


def _expired_runs(settings: Settings, store: Store, retired: Sequence[str]) -> list[str]:
    released = {run_id_of(name) for name in store.names("releases") if name not in retired}
    # Run ids start with the day, so they sort by age.
    runs = store.children("runs")
    kept = released | set(runs[-settings.release.keep :])
    oldest_in_use = time.time() - LEFTOVER_SECONDS
    return [r for r in runs if r not in kept and store.modified(f"runs/{r}") < oldest_in_use]


def _remove_run(store: Store, run: str) -> None:
    # The dataset is removed last: after a killed removal, the run is found again by it.
    for child in sorted(store.children(f"runs/{run}"), key=lambda name: name == "dataset"):
        store.remove(f"runs/{run}/{child}")
    store.remove(f"runs/{run}")
    store.remove(f"reports/{run}")


def _expired_plans(lake: Lake) -> list[str]:
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


def _expired_preferences(lake: Lake) -> list[dt.date]:
    found = lake.collect(lake.scan("uploader_genres").select("as_of").unique(), "uploader_genres")
    days: list[dt.date] = found["as_of"].sort().to_list()
    return [day for day in days if day < days[-1] - dt.timedelta(days=PREFERENCE_DAYS)]
