"""How things stand, on one screen: days, tables, release, gate, quarantine, running DAG runs."""

from __future__ import annotations

import datetime as dt
import logging
import os
from dataclasses import dataclass

import polars as pl

from pipeline.gate import Decision, stored_decision
from pipeline.lake import Lake
from pipeline.local_airflow import environment
from pipeline.releases.current import Promotion, read_current
from pipeline.reporting.metrics import newest_upload
from pipeline.store import Store
from pipeline.upkeep import sizes

log = logging.getLogger(__name__)

QUARANTINE_DAYS = 14
_DAGS = ("media_features", "debcm_retrain", "feature_backfill", "lake_upkeep")


@dataclass(frozen=True)
class DagRunState:
    """A DAG run that is not over.

    Attributes:
        dag_id: its DAG.
        run_id: Airflow's id of the run.
        partition: its day; empty where it has none.
        state: "queued" or "running".
        since: when it was started, or queued.
    """

    dag_id: str
    run_id: str
    partition: str
    state: str
    since: dt.datetime | None


@dataclass(frozen=True)
class Status:
    """How things stand.

    Attributes:
        newest_ingested: newest landing day in the catalogue.
        newest_features: newest day whose every clip is accounted for.
        newest_upload: time of the newest upload in the catalogue.
        tables: table -> rows, of those that exist.
        release: the current release and when it became current.
        decision: the gate's last decision.
        decided_at: when it fell.
        quarantine: reason -> rows of the two weeks up to the newest ingested day.
    """

    newest_ingested: dt.date | None
    newest_features: dt.date | None
    newest_upload: dt.datetime | None
    tables: dict[str, int]
    release: Promotion | None
    decision: Decision | None
    decided_at: dt.datetime | None
    quarantine: dict[str, int]


def read_status(lake: Lake, store: Store) -> Status:
    """Gather it from the tables' logs and the small tables; no feature is read."""
    ingested = _newest(lake, "landing_days", "dt")
    current = read_current(store)
    runs = lake.collect(
        lake.scan("runs").select("run_id", "finished_at").sort("finished_at").tail(1), "runs"
    )
    quarantine: dict[str, int] = {}
    if ingested is not None:
        first = ingested - dt.timedelta(days=QUARANTINE_DAYS - 1)
        rows = lake.read("quarantine", pl.col("dt") >= first)
        counted = rows.group_by("reason").len().sort("len", "reason", descending=[True, False])
        quarantine = dict(counted.iter_rows())
    return Status(
        newest_ingested=ingested,
        newest_features=_newest(lake, "feature_days", "dt"),
        newest_upload=newest_upload(lake),
        tables={name: size["rows"] for name, size in sizes(lake).items()},
        release=current.promotions[0] if current else None,
        decision=stored_decision(lake, runs["run_id"][0]) if len(runs) else None,
        decided_at=runs["finished_at"][0] if len(runs) else None,
        quarantine=quarantine,
    )


def quarantine_text(lake: Lake, day: dt.date) -> str:
    """Every row of a landing day that was rejected, a line each: reason, kind, id, detail."""
    rows = lake.read("quarantine", pl.col("dt") == day).sort("reason", "kind", "id")
    # What came from a manifest may not move the cursor.
    return "\n".join(
        "".join(c if c.isprintable() else "?" for c in f"{reason:<22}{kind:<6}{name:<12}  {detail}")
        for reason, kind, name, detail in rows.select("reason", "kind", "id", "detail").iter_rows()
    )


def running_dag_runs() -> list[DagRunState] | str:
    """DAG runs that are queued or running, or one sentence on why they cannot be read."""
    if "AIRFLOW_HOME" not in os.environ:
        os.environ.update(environment())
    # Airflow configures itself when it is first imported.
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select
    from sqlalchemy.exc import SQLAlchemyError

    wanted = (
        select(DagRun)
        .where(DagRun.dag_id.in_(_DAGS), DagRun.state.in_(("queued", "running")))
        .order_by(DagRun.queued_at)
    )
    try:
        with create_session() as session:
            return [
                DagRunState(
                    run.dag_id,
                    run.run_id,
                    run.partition_key or str((run.conf or {}).get("day", "")),
                    str(run.state),
                    run.start_date or run.queued_at,
                )
                for run in session.scalars(wanted)
            ]
    except SQLAlchemyError as error:
        log.debug("Airflow's database: %s", error)
        return f"Airflow's database cannot be read ({type(error).__name__}): has it run here yet?"


def status_text(status: Status, runs: list[DagRunState] | str, now: dt.datetime) -> str:
    """The screen of `debcm status`.

    Args:
        status: how things stand.
        runs: what `running_dag_runs` returned.
        now: for ages.
    """
    lines = [
        "Days",
        f"  newest ingested   {status.newest_ingested or 'none'}",
        f"  newest complete   {status.newest_features or 'none'}",
        f"  newest upload     {_time(status.newest_upload)}{_age(status.newest_upload, now)}",
        "Tables (rows)",
        *_columns([f"{name} {rows}" for name, rows in status.tables.items()] or ["none"]),
        "Release",
        *_release(status, now),
        "Last decision of the gate",
        *_decision(status, now),
        f"Quarantine, {QUARANTINE_DAYS} days (rows)",
        *_columns([f"{reason} {rows}" for reason, rows in status.quarantine.items()] or ["empty"]),
        "DAG runs under way",
        *_dag_runs(runs, now),
    ]
    return "\n".join(lines)


def _newest(lake: Lake, table: str, column: str) -> dt.date | None:
    newest = lake.collect(lake.scan(table).select(pl.col(column).max()), table).item()
    return newest if isinstance(newest, dt.date) else None


def _release(status: Status, now: dt.datetime) -> list[str]:
    if status.release is None:
        return ["  none yet"]
    promoted = dt.datetime.fromisoformat(status.release.at)
    return [
        f"  {status.release.release_id}, current since {_time(promoted)}{_age(promoted, now)}",
        f"  {status.release.why}",
    ]


def _decision(status: Status, now: dt.datetime) -> list[str]:
    decision = status.decision
    if decision is None:
        return ["  none yet"]
    told = f"  {decision.decision} {decision.run_id}, {_time(status.decided_at)}"
    broken = [f"  {verdict.rule}: {verdict.text}" for verdict in decision.failed]
    return [told + _age(status.decided_at, now), *broken]


def _dag_runs(runs: list[DagRunState] | str, now: dt.datetime) -> list[str]:
    if isinstance(runs, str):
        return [f"  {runs}"]
    if not runs:
        return ["  none"]
    return [
        f"  {run.dag_id:<17}{run.partition:<12}{run.state:<9}{_age(run.since, now)}" for run in runs
    ]


def _columns(cells: list[str]) -> list[str]:
    """Cells three in a row, each under the one above."""
    width = max(map(len, cells)) + 3
    return [
        "  " + "".join(cell.ljust(width) for cell in cells[start : start + 3]).rstrip()
        for start in range(0, len(cells), 3)
    ]


def _time(moment: dt.datetime | None) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M UTC") if moment else "none"


def _age(moment: dt.datetime | None, now: dt.datetime) -> str:
    if moment is None:
        return ""
    hours = (now - moment).total_seconds() / 3600
    return f" ({hours / 24:.1f} days ago)" if hours >= 48 else f" ({hours:.1f} hours ago)"
