"""The demo triggers its DAG runs itself: its schedule must not start any."""

from __future__ import annotations

import datetime as dt

import pytest

from simulation.demo import _schedule_away_from

# Airflow makes a first run up to a tenth of the schedule's period late.
LATE = dt.timedelta(days=1) / 10
LASTS = dt.timedelta(hours=1)


@pytest.mark.parametrize("hour", range(24))
@pytest.mark.parametrize("minute", [0, 3, 59])
def test_the_schedule_starts_no_run_during_the_demo(hour: int, minute: int) -> None:
    now = dt.datetime(2026, 3, 4, hour, minute, tzinfo=dt.UTC)
    at, due, *every = _schedule_away_from(now).split()
    assert (at, every) == ("0", ["*", "*", "*"])
    midnight = now.replace(hour=0, minute=0)
    for day in (-1, 0, 1):
        night = midnight + dt.timedelta(days=day, hours=int(due))
        assert not now - LATE <= night <= now + LASTS
