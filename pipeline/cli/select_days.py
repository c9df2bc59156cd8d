"""Which landing days `debcm run` takes, and why it leaves out the others."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import Permanent
from pipeline.ingestion.landing_day import SUCCESS, LandingDay, landing_days


class LandingFolderError(Permanent):
    """The landing folder does not exist, or holds no day that could be taken."""

    remedy = (
        "A day is a folder dt=YYYY-MM-DD with videos, music and, written last, `_SUCCESS` "
        "(docs/tables.md: the landing contract)."
    )


def choose_days(
    root: Path, wanted: Sequence[dt.date] = (), today: dt.date | None = None
) -> tuple[list[dt.date], list[tuple[str, str]]]:
    """The days to take, in order, and what was skipped: (name, why).

    Args:
        root: the landing folder.
        wanted: days asked for, which are taken whatever state they are in; none: every day that
            is complete and has begun.
        today: in UTC; None: by the clock.

    Raises:
        LandingFolderError: there is no such folder, or nothing to take in it.
        LandingAccessError: the folder may not be read.
    """
    if not root.is_dir():
        raise LandingFolderError("no such folder", where=str(root))
    if wanted:
        return sorted(set(wanted)), []
    today = today or dt.datetime.now(dt.UTC).date()
    delivered = {f"dt={day.isoformat()}": day for day in landing_days(root)}
    days: list[dt.date] = []
    skipped: list[tuple[str, str]] = []
    for name in sorted(entry.name for entry in root.iterdir()):
        day = delivered.get(name)
        if day is None:
            if not name.startswith("."):
                skipped.append((name, "not a folder dt=YYYY-MM-DD"))
        elif day > today:
            skipped.append((name, "in the future; `--day` takes it all the same"))
        elif not LandingDay(root, day).is_complete:
            skipped.append((name, f"no {SUCCESS} in it: not complete yet"))
        else:
            days.append(day)
    if not days:
        found = "; ".join(f"{name}: {why}" for name, why in skipped) or "it is empty"
        raise LandingFolderError(f"no complete day ({found})", where=str(root))
    return days, skipped
