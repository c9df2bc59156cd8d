"""Writes the output of `debcm status` and `debcm quarantine`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from pipeline.context import Context
from pipeline.errors import (
    DayNotReadyError,
    LandingAccessError,
    LandingUnavailableError,
    PipelineError,
)
from pipeline.ingestion.delivery import missed_days
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
# Limits of the output, so that it fits on one screen.
_INCOMPLETE = 5
_DETAIL = 240


@dataclass(frozen=True)
class Status:
    """The state of the lake and of the landing folder.

    Attributes:
        newest_ingested: newest landing day in the catalogue.
        newest_features: newest day of which every clip has features or is in quarantine.
        newest_upload: time of the newest upload in the catalogue.
        tables: table -> number of rows, for each table that exists.
        release: the promotion of the current release.
        decision: the gate's last decision.
        decided_at: time of that decision.
        quarantine: reason -> rows of the two weeks up to the newest ingested day.
        refused: days that were refused in the last two weeks and not accepted since.
        incomplete: days before today without `_SUCCESS`, or the error of reading the folder.
        missed: complete days that were never ingested and are too old for any night.
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
    incomplete: tuple[dt.date, ...] | str = ()
    missed: tuple[dt.date, ...] = ()


def read(context: Context, now: dt.datetime) -> Status:
    """Read the state from the logs of the tables and the small tables; features are not read."""
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
        incomplete=_incomplete_days(settings, now.date()),
        missed=_missed_days(settings, lake, now.date()),
    )


def _incomplete_days(settings: Settings, today: dt.date) -> tuple[dt.date, ...] | str:
    root = settings.landing.root
    try:
        days = [day for day in landing_days(root) if day < today]
    except PipelineError as error:
        return error.summary
    incomplete = []
    for day in days:
        try:
            LandingDay(root, day).require_success()
        except DayNotReadyError:
            incomplete.append(day)
        except PipelineError as error:
            # Not incomplete: another delivery would not help.
            return error.summary
    return tuple(incomplete)


def _missed_days(settings: Settings, lake: Lake, today: dt.date) -> tuple[dt.date, ...]:
    try:
        return tuple(missed_days(settings, lake, today))
    except (LandingAccessError, LandingUnavailableError):
        # The list of incomplete days shows this error.
        return ()


def quarantine_text(lake: Lake, day: dt.date) -> str:
    """Return the rejected rows of a landing day, one line each: reason, kind, id, detail."""
    rows = lake.read("quarantine", pl.col("dt") == day).sort("reason", "kind", "id")
    lines = [
        f"{day} was refused by {refusal.step}: {refusal.reason}: {printable(refusal.detail)}"
        for refusal in read_refused_days(lake)
        if refusal.day == day
    ]
    if not rows.is_empty():
        lines += table(list(rows.select("reason", "kind", "id", "detail").iter_rows()))
    elif not lines:
        is_ingested = lake.read("landing_days", pl.col("dt") == day).height > 0
        lines = [f"no row of {day} was rejected" if is_ingested else f"{day} was not ingested yet"]
    return "\n".join(lines)


def place_text(settings: Settings) -> str:
    """Return the location of the lake and of the settings file, as lines."""
    file = settings_file()
    root = settings.lake.root
    return "\n".join(
        [
            "Lake",
            f"  {root}{'' if lake_exists(root) else ' (does not exist yet)'}",
            f"  settings: {file}"
            if file
            else "  settings: defaults and environment variables ($DEBCM_CONFIG is not set, and "
            "this folder has no debcm.toml)",
        ]
    )


def status_text(status: Status, runs: list[DagRunState] | str, now: dt.datetime) -> str:
    """Return the output of `debcm status`: problems first, then release, days and tables.

    Args:
        status: the state of the lake.
        runs: the result of `dag_runs.active_and_failed`.
        now: the current time, from which ages are computed.
    """
    lines = [
        *_failed(runs, now),
        *_refused(status, now),
        *_missed(status),
        "Current release",
        *_release(status, now),
        "Last gate decision",
        *_decision(status, now),
        "Landing days",
        f"  newest ingested   {status.newest_ingested or 'none'}",
        f"  newest complete   {status.newest_features or 'none'}",
        f"  newest upload     {_time(status.newest_upload)}{_age(status.newest_upload, now)}",
        *_incomplete(status),
        "Active DAG runs",
        *_active(runs, now),
        f"Quarantined rows of the last {QUARANTINE_DAYS} days",
        *_columns([f"{reason} {rows}" for reason, rows in status.quarantine.items()] or ["none"]),
        "Rows per table",
        *_columns([f"{name} {rows}" for name, rows in status.tables.items()] or ["none"]),
    ]
    return "\n".join(lines)


def _newest(lake: Lake, table: str, column: str) -> dt.date | None:
    newest = lake.collect(lake.scan(table).select(pl.col(column).max()), table).item()
    return newest if isinstance(newest, dt.date) else None


def _incomplete(status: Status) -> list[str]:
    if isinstance(status.incomplete, str):
        return [f"  {printable(status.incomplete)}"]
    if not status.incomplete:
        return []
    return [f"  without {SUCCESS}  {_newest_days(status.incomplete)}"]


def _newest_days(days: Sequence[dt.date]) -> str:
    more = len(days) - _INCOMPLETE
    newest = ", ".join(map(str, days[-_INCOMPLETE:]))
    return f"{newest}{f' and {more} earlier' if more > 0 else ''}"


def _missed(status: Status) -> list[str]:
    if not status.missed:
        return []
    return [
        "Missed days: complete, but no night will ingest them; `debcm catch-up` runs them",
        f"  {_newest_days(status.missed)}",
    ]


def _refused(status: Status, now: dt.datetime) -> list[str]:
    if not status.refused:
        return []
    lines = ["Refused days (see docs/operate.md: When a day is refused)"]
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
        f"  reason: {status.release.why}",
    ]


def _decision(status: Status, now: dt.datetime) -> list[str]:
    decision = status.decision
    if decision is None:
        return ["  none yet"]
    decided = f"  {decision.decision} {decision.run_id}, {_time(status.decided_at)}"
    broken = [f"  {verdict.rule}: {verdict.text}" for verdict in decision.failed]
    return [decided + _age(status.decided_at, now), *broken]


def _active(runs: list[DagRunState] | str, now: dt.datetime) -> list[str]:
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
        f"Failed DAG runs of the last {FAILED_DAYS} days (see docs/operate.md: When a task fails)",
        *(
            f"  {run.dag_id:<17}{run.partition:<12}{', '.join(run.tasks)}{_age(run.since, now)}"
            for run in failed
        ),
    ]


def _columns(cells: list[str]) -> list[str]:
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
    # The time may come from another machine, whose clock is ahead.
    hours = max(0.0, (now - moment).total_seconds() / 3600)
    if hours < 2:
        return f" ({hours * 60:.0f} min ago)"
    return f" ({hours / 24:.1f} days ago)" if hours >= 48 else f" ({hours:.1f} hours ago)"
