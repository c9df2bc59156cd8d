"""Which landing days `debcm run` takes, and why it leaves out the others."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import Permanent
from pipeline.landing import SUCCESS, LandingDay

_PREFIX = "dt="


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
    """
    if not root.is_dir():
        raise LandingFolderError("no such folder", where=str(root))
    if wanted:
        return sorted(set(wanted)), []
    today = today or dt.datetime.now(dt.UTC).date()
    days: list[dt.date] = []
    skipped: list[tuple[str, str]] = []
    for entry in sorted(root.iterdir()):
        if entry.name.startswith("."):
            continue
        day = _day_of(entry)
        if day is None:
            skipped.append((entry.name, "not a folder dt=YYYY-MM-DD"))
        elif day > today:
            skipped.append((entry.name, "in the future; `--day` takes it all the same"))
        elif not LandingDay(root, day).is_complete:
            skipped.append((entry.name, f"no {SUCCESS} in it: not complete yet"))
        else:
            days.append(day)
    if not days:
        found = "; ".join(f"{name}: {why}" for name, why in skipped) or "it is empty"
        raise LandingFolderError(f"no complete day ({found})", where=str(root))
    return days, skipped


def _day_of(entry: Path) -> dt.date | None:
    if not entry.name.startswith(_PREFIX) or not entry.is_dir():
        return None
    name = entry.name.removeprefix(_PREFIX)
    try:
        day = dt.date.fromisoformat(name)
    except ValueError:
        return None
    # Python reads 20260301 and 2026-W09-7 as days too; the contract has one spelling.
    return day if day.isoformat() == name else None
