"""How things stand, on one screen: days, tables, release, gate, quarantine, DAG runs."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import polars as pl

from pipeline.context import Context
from pipeline.errors import PipelineError
from pipeline.ingestion.landing_day import SUCCESS, LandingDay, landing_days
from pipeline.ingestion.refused_days import RefusedDay, read_refused_days
from pipeline.lake.table_sizes import sizes
from pipeline.lake.tables import Lake
from pipeline.orchestration.dag_runs import FAILED_DAYS, DagRunState
from pipeline.releases.current import Promotion, read_current
from pipeline.reporting.metrics import newest_upload
from pipeline.reporting.text import printable, table
from pipeline.settings.load import Settings, settings_file
from pipeline.storage.presence import lake_exists
from pipeline.training.gate import Decision, read_decision

QUARANTINE_DAYS = 14
# What fits on a screen.
_WAITING = 5
_DETAIL = 240


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
        refused: days that were refused in the last two weeks and not accepted since.
        waiting: days before today without `_SUCCESS`, or one sentence on why nobody can say.
    """

    newest_ingested: dt.date | None
    newest_features: dt.date | None
    newest_upload: dt.datetime | None
    tables: dict[str, int]
    release: Promotion | None
    decision: Decision | None
    decided_at: dt.datetime | None
    quarantine: dict[str, int]
    refused: tuple[RefusedDay, ...] = ()
    waiting: tuple[dt.date, ...] | str = ()


def read(context: Context, now: dt.datetime) -> Status:
    """Gather it from the tables' logs and the small tables; no feature is read."""
    settings, lake, store = context.settings, context.lake, context.store
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
        decision=read_decision(lake, runs["run_id"][0]) if len(runs) else None,
        decided_at=runs["finished_at"][0] if len(runs) else None,
        quarantine=quarantine,
        refused=tuple(
            refusal
            for refusal in read_refused_days(lake)
            if refusal.at > now - dt.timedelta(days=QUARANTINE_DAYS)
        ),
        waiting=_waiting(settings, now.date()),
    )


def _waiting(settings: Settings, today: dt.date) -> tuple[dt.date, ...] | str:
    root = settings.landing.root
    try:
        days = [day for day in landing_days(root) if day < today]
    except PipelineError as error:
        return error.summary
    return tuple(day for day in days if not LandingDay(root, day).is_complete)


def quarantine_text(lake: Lake, day: dt.date) -> str:
    """Every row of a landing day that was rejected, a line each: reason, kind, id, detail."""
    rows = lake.read("quarantine", pl.col("dt") == day).sort("reason", "kind", "id")
    told = [
        f"{day} was refused by {refusal.step}: {refusal.reason}: {printable(refusal.detail)}"
        for refusal in read_refused_days(lake)
        if refusal.day == day
    ]
    if not rows.is_empty():
        told += table(list(rows.select("reason", "kind", "id", "detail").iter_rows()))
    elif not told:
        known = lake.read("landing_days", pl.col("dt") == day).height
        told = [f"no row of {day} was rejected" if known else f"{day} has not been ingested"]
    return "\n".join(told)


def place_text(settings: Settings) -> str:
    """Which lake the screen is about, and who says so."""
    file = settings_file()
    root = settings.lake.root
    return "\n".join(
        [
            "Lake",
            f"  {root}{'' if lake_exists(root) else ': nothing is there yet'}",
            f"  settings of {file}"
            if file
            else "  settings: defaults and variables; $DEBCM_CONFIG is not set, and there is no "
            "debcm.toml here",
        ]
    )


def status_text(status: Status, runs: list[DagRunState] | str, now: dt.datetime) -> str:
    """The screen of `debcm status`.

    Args:
        status: how things stand.
        runs: what `dag_runs` returned.
        now: for ages.
    """
    lines = [
        "Days",
        f"  newest ingested   {status.newest_ingested or 'none'}",
        f"  newest complete   {status.newest_features or 'none'}",
        f"  newest upload     {_time(status.newest_upload)}{_age(status.newest_upload, now)}",
        *_without_success(status),
        *_refused(status, now),
        "Tables (rows)",
        *_columns([f"{name} {rows}" for name, rows in status.tables.items()] or ["none"]),
        "Release",
        *_release(status, now),
        "Last decision of the gate",
        *_decision(status, now),
        f"Quarantine, {QUARANTINE_DAYS} days (rows)",
        *_columns([f"{reason} {rows}" for reason, rows in status.quarantine.items()] or ["empty"]),
        "DAG runs under way",
        *_under_way(runs, now),
        *_failed(runs, now),
    ]
    return "\n".join(lines)


def _newest(lake: Lake, table: str, column: str) -> dt.date | None:
    newest = lake.collect(lake.scan(table).select(pl.col(column).max()), table).item()
    return newest if isinstance(newest, dt.date) else None


def _without_success(status: Status) -> list[str]:
    if isinstance(status.waiting, str):
        return [f"  {printable(status.waiting)}"]
    if not status.waiting:
        return []
    newest = ", ".join(map(str, status.waiting[-_WAITING:]))
    more = len(status.waiting) - _WAITING
    return [f"  without {SUCCESS}  {newest}{f' and {more} earlier' if more > 0 else ''}"]


def _refused(status: Status, now: dt.datetime) -> list[str]:
    if not status.refused:
        return []
    lines = ["Days refused (docs/operate.md: When a day is refused)"]
    for refusal in status.refused:
        lines += [
            f"  {refusal.day}  {refusal.step}: {refusal.reason}{_age(refusal.at, now)}",
            f"    {printable(refusal.detail)[:_DETAIL]}",
        ]
    return lines


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


def _under_way(runs: list[DagRunState] | str, now: dt.datetime) -> list[str]:
    if isinstance(runs, str):
        return [f"  {runs}"]
    return [
        f"  {run.dag_id:<17}{run.partition:<12}{run.state:<9}{_age(run.since, now)}"
        for run in runs
        if run.state != "failed"
    ] or ["  none"]


def _failed(runs: list[DagRunState] | str, now: dt.datetime) -> list[str]:
    failed = [run for run in runs if not isinstance(run, str) and run.state == "failed"]
    if not failed:
        return []
    return [
        f"DAG runs that failed, {FAILED_DAYS} days (docs/operate.md: When a task fails)",
        *(
            f"  {run.dag_id:<17}{run.partition:<12}{', '.join(run.tasks)}{_age(run.since, now)}"
            for run in failed
        ),
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
    # A moment ago another clock may have been ahead.
    hours = max(0.0, (now - moment).total_seconds() / 3600)
    if hours < 2:
        return f" ({hours * 60:.0f} min ago)"
    return f" ({hours / 24:.1f} days ago)" if hours >= 48 else f" ({hours:.1f} hours ago)"
