"""The demo starts its nights itself; the schedule stays out of the way, whatever the hour."""

from __future__ import annotations

import datetime as dt

import pytest

from simulation.demo import _half_a_day_from

# Airflow makes a first run up to a tenth of the schedule's period late.
LATE = dt.timedelta(days=1) / 10
LASTS = dt.timedelta(hours=1)


@pytest.mark.parametrize("hour", range(24))
@pytest.mark.parametrize("minute", [0, 3, 59])
def test_no_night_is_due_while_the_demo_runs(hour: int, minute: int) -> None:
    now = dt.datetime(2026, 3, 4, hour, minute, tzinfo=dt.UTC)
    at, due, *every = _half_a_day_from(now).split()
    assert (at, every) == ("0", ["*", "*", "*"])
    midnight = now.replace(hour=0, minute=0)
    for day in (-1, 0, 1):
        night = midnight + dt.timedelta(days=day, hours=int(due))
        assert not now - LATE <= night <= now + LASTS
