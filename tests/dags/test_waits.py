"""A task that waits does not block other days.

Fault 6 of the on-call list: an unanswered approval blocked all later retrainings, and days that
waited for their delivery used all run slots.
"""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import pytest

from pipeline.orchestration.dag_helpers import RETRY_POLICY
from pipeline.orchestration.local_airflow import CHECKOUT
from pipeline.settings.sections import LandingSettings


def test_days_that_wait_as_long_as_possible_leave_run_slots(bag: Any) -> None:
    (limit,) = [
        bound.le
        for bound in LandingSettings.model_fields["wait_hours"].metadata
        if hasattr(bound, "le")
    ]
    waiting = math.ceil(limit / 24) + 1
    dag = bag.dags["media_features"]
    assert dag.max_active_runs >= 4 + waiting
    for name in ("ingest", "plan", "check"):
        assert dag.get_task(name).max_active_tis_per_dag == 4


def test_an_approval_that_nobody_answers_ends_before_the_next_night(
    bag: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.providers.standard.exceptions import HITLTimeoutError

    monkeypatch.setenv("DEBCM_SCHEDULE__APPROVAL", "true")
    dags = DagBag(CHECKOUT / "dags" / "debcm_retrain.py", bundle_path=CHECKOUT / "dags").dags
    approve = dags["debcm_retrain"].get_task("approve")
    assert dt.timedelta(hours=1) < approve.response_timeout < dt.timedelta(hours=24)
    decided = RETRY_POLICY.evaluate(HITLTimeoutError("nobody answered"), 1, 3)
    assert decided.action.value == "fail"
