"""What keeps a lake small: leftovers swept, old runs and plans removed, tables compacted."""

from __future__ import annotations

import datetime as dt
import logging
import time
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from pipeline.current import run_of
from pipeline.errors import WriteConflictError
from pipeline.lake import Lake, repr_sql
from pipeline.release_history import retire
from pipeline.schemas import TABLES
from pipeline.settings import Settings
from pipeline.store import Store

log = logging.getLogger(__name__)

# No step writes a folder for a day; what is older was left by a killed task.
LEFTOVER_SECONDS = 86_400.0
# A plan is of no use once its run is over; a cleared task of last week may still ask for it.
PLAN_DAYS = 14
# Reports compare preferences with those of the previous weeks.
PREFERENCE_DAYS = 35


@dataclass(frozen=True)
class RetentionSummary:
    """What was removed.

    Attributes:
        leftovers: folders that killed writers had left aside.
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


def retention(settings: Settings, lake: Lake, store: Store) -> RetentionSummary:
    """Remove what killed tasks left, and what is past its time by the settings.

    Kept are the runs of every kept release and the newest `[release] keep` runs.

    Raises:
        WriteConflictError: other writers won every attempt.
    """
    summary = RetentionSummary(
        leftovers=tuple(store.sweep(time.time() - LEFTOVER_SECONDS)),
        releases=tuple(retire(settings, store)),
        runs=tuple(_old_runs(settings, store)),
        plans=_remove_old_plans(lake),
        preferences=_remove_old_preferences(lake),
    )
    log.info("%s", summary)
    return summary


def compaction(settings: Settings, lake: Lake) -> dict[str, Any]:
    """Rewrite every table's small files into large ones and remove its old versions.

    Returns:
        Table -> files removed and added by compaction, and files of old versions removed.

    Raises:
        WriteConflictError: another writer changed the same files meanwhile; nothing is lost.
    """
    done = {}
    for table in TABLES:
        delta = lake.delta(table)
        if delta is None:
            continue
        try:
            compacted = delta.optimize.compact()
        except CommitFailedError as error:
            raise WriteConflictError(str(error), where=lake.uri(table)) from error
        forgotten = lake.forget_versions(table, settings.lake.keep_versions_days)
        done[table] = {
            "compacted": compacted["numFilesRemoved"],
            "into": compacted["numFilesAdded"],
            "forgotten": forgotten,
        }
        log.info("%s: %s", table, done[table])
    return done


def sizes(lake: Lake) -> dict[str, Any]:
    """Rows, files, MB and version of every table that exists, from its log alone."""
    found = {}
    for table in TABLES:
        delta = lake.delta(table)
        if delta is None:
            continue
        files = _files(delta)
        found[table] = {
            "rows": int(files["num_records"].sum()),
            "files": len(files),
            "megabytes": round(int(files["size_bytes"].sum()) / 1e6, 3),
            "version": int(delta.version()),
        }
        log.info("%s: %s", table, found[table])
    return found


def _old_runs(settings: Settings, store: Store) -> list[str]:
    released = {run_of(name) for name in store.names("releases")}
    # A run's name begins with its day.
    newest = set(store.children("runs")[-settings.release.keep :])
    old = [run for run in store.children("runs") if run not in released | newest]
    for run in old:
        # A run is known by its dataset, so that goes last: a killed removal is found again.
        for child in sorted(store.children(f"runs/{run}"), key=lambda name: name == "dataset"):
            store.remove(f"runs/{run}/{child}")
        store.remove(f"runs/{run}")
        store.remove(f"reports/{run}")
    return old


def _remove_old_plans(lake: Lake) -> int:
    delta = lake.delta("shards")
    if delta is None:
        return 0
    written = (
        _files(delta)
        .group_by("plan")
        .agg(pl.from_epoch(pl.col("modification_time").max(), "ms").dt.replace_time_zone("UTC"))
    )
    before = dt.datetime.now(dt.UTC) - dt.timedelta(days=PLAN_DAYS)
    old = written.filter(pl.col("modification_time") < before)["plan"].sort().to_list()
    if old:
        lake.delete("shards", f"plan IN ({', '.join(repr_sql(plan) for plan in old)})")
    return len(old)


def _remove_old_preferences(lake: Lake) -> int:
    days = lake.collect(lake.scan("uploader_genres").select("as_of").unique(), "uploader_genres")
    newest = days["as_of"].max()
    if not isinstance(newest, dt.date):
        return 0
    first_kept = newest - dt.timedelta(days=PREFERENCE_DAYS)
    old = days.filter(pl.col("as_of") < first_kept)
    if len(old):
        lake.delete("uploader_genres", f"as_of < {repr_sql(first_kept)}")
    return len(old)


def _files(delta: DeltaTable) -> pl.DataFrame:
    """The files of the newest version: path, size_bytes, num_records, partition values."""
    files = pl.DataFrame(pl.from_arrow(pa.table(delta.get_add_actions(flatten=True))))
    return files.rename({name: name.removeprefix("partition.") for name in files.columns})
