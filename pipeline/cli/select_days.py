"""Selects the landing days that `debcm run` processes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import (
    DayNotReadyError,
    LandingAccessError,
    LandingUnavailableError,
    ManifestError,
    Permanent,
    PipelineError,
)
from pipeline.ingestion.landing_day import SUCCESS, LandingDay, landing_days
from pipeline.ingestion.manifest import as_landing_error

# Errors of a landing folder that another delivery would not fix.
LANDING_ERRORS = (LandingAccessError, LandingUnavailableError, ManifestError)


class LandingFolderError(Permanent):
    """The landing folder does not exist or has no complete day."""

    remedy = (
        "Deliver a folder dt=YYYY-MM-DD with the manifests videos.* and music.* and a `_SUCCESS` "
        "file, written last (docs/tables.md: the landing contract)."
    )


def choose_days(
    root: Path, wanted: Sequence[dt.date] = (), today: dt.date | None = None
) -> tuple[list[dt.date], list[tuple[str, str]]]:
    """Select the landing days to process.

    Args:
        root: the landing folder.
        wanted: the days to select, complete or not; empty: every complete day up to today.
        today: the current day in UTC; None: read the clock.

    Returns:
        The selected days in order, and (name, reason) of each entry of the folder that was skipped.

    Raises:
        LandingFolderError: the folder does not exist or has no day to process.
        LandingAccessError: the folder cannot be read.
    """
    try:
        is_folder = root.is_dir()
    except OSError as error:
        raise as_landing_error(error, root) from error
    if not is_folder:
        raise LandingFolderError("no such folder", where=str(root))
    if wanted:
        return sorted(set(wanted)), []
    today = today or dt.datetime.now(dt.UTC).date()
    delivered = {f"dt={day.isoformat()}": day for day in landing_days(root)}
    days: list[dt.date] = []
    skipped: list[tuple[str, str]] = []
    unreadable: list[PipelineError] = []
    for name in sorted(entry.name for entry in root.iterdir()):
        day = delivered.get(name)
        if day is None:
            if not name.startswith("."):
                skipped.append((name, "not a folder dt=YYYY-MM-DD"))
        elif day > today:
            skipped.append((name, "in the future; use --day to process it"))
        else:
            try:
                LandingDay(root, day).require_success()
                days.append(day)
            except DayNotReadyError:
                skipped.append((name, f"incomplete: no {SUCCESS} file yet"))
            except LANDING_ERRORS as error:
                unreadable.append(error)
                skipped.append((name, f"{error.summary}. {error.remedy}"))
    if not days and unreadable:
        raise unreadable[0]
    if not days:
        found = "; ".join(f"{name}: {why}" for name, why in skipped) or "the folder is empty"
        raise LandingFolderError(f"no complete landing day ({found})", where=str(root))
    return days, skipped
