"""Which DAG runs `debcm status` lists."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.orchestration.dag_runs import active_and_failed, is_resolved


def test_without_a_database_one_sentence_says_so() -> None:
    found = active_and_failed(dt.datetime.now(dt.UTC))
    assert "Airflow's database cannot be read" in found


def a_run(state: str, hour: int, **changes: Any) -> SimpleNamespace:
    queued = dt.datetime(2026, 3, 5, hour, tzinfo=dt.UTC)
    fields = {"dag_id": "media_features", "partition_key": "2026-03-04", "conf": {}}
    return SimpleNamespace(**fields | {"state": state, "queued_at": queued} | changes)


# The start of a run of `airflow dags test`, which is never queued.
LATER = dt.datetime(2026, 3, 5, 4, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("other", "resolved"),
    [
        (a_run("success", 3), True),
        (a_run("running", 3), True),
        (a_run("success", 3, partition_key=None, conf={"day": "2026-03-04"}), True),
        (a_run("success", 0, queued_at=None, start_date=LATER), True),
        (a_run("success", 1), False),
        (a_run("failed", 3), False),
        (a_run("success", 3, partition_key="2026-03-03"), False),
        (a_run("success", 3, dag_id="debcm_retrain"), False),
    ],
)
def test_a_failed_run_is_resolved_by_a_later_run_of_the_same_day(
    other: SimpleNamespace, resolved: bool
) -> None:
    failed = a_run("failed", 2)
    assert is_resolved(failed, [failed, other]) is resolved


def test_active_runs_are_listed_and_successful_runs_are_not() -> None:
    for state, resolved in (("queued", False), ("running", False), ("success", True)):
        assert is_resolved(a_run(state, 2), []) is resolved
