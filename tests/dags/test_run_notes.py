"""Notes that say which days a DAG run is for, through Airflow's own functions on a database.

Fault 4 of the on-call list: the grid did not show the day of a run by hand, and a retraining was
labelled with another day than its release.
"""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.orchestration.dag_runs import _state
from tests.helpers.dag_runs import make_run, start


@pytest.mark.parametrize(
    ("dag_id", "conf", "note"),
    [
        ("media_features", {"day": "2026-03-01"}, "day 2026-03-01"),
        ("media_features", {}, None),
        (
            "feature_backfill",
            {"first_day": "2026-03-01", "last_day": "2026-03-02", "dry_run": False},
            "first_day 2026-03-01, last_day 2026-03-02, dry_run False",
        ),
    ],
)
def test_a_run_by_hand_has_its_days_as_note(
    session: Any, dag_id: str, conf: dict[str, Any], note: str | None
) -> None:
    run = make_run(session, dag_id, conf=conf)
    start(session, run)
    assert run.note == note


def test_a_note_of_a_person_is_kept(session: Any) -> None:
    run = make_run(session, "media_features", conf={"day": "2026-03-01"}, note="after the outage")
    start(session, run)
    assert run.note == "after the outage"


@pytest.mark.parametrize("state", ["success", "failed"])
def test_a_retraining_has_the_newest_day_of_its_data_as_note(session: Any, state: str) -> None:
    run = make_run(session, "debcm_retrain", partition_key="2026-03-01")
    start(session, run)
    for newest in ("2026-03-03", "2026-03-04"):  # the second time after a clear
        write_newest_day(session, run, newest)
        run.state = state
        run.notify_dagrun_state_changed(msg=state)
        session.flush()
        assert run.note == f"trained as of {newest}"
        assert _state(run).partition == newest


def test_a_retraining_that_failed_before_it_chose_a_day_has_no_note(session: Any) -> None:
    run = make_run(session, "debcm_retrain", partition_key="2026-03-01")
    run.state = "failed"
    run.notify_dagrun_state_changed(msg="failed")
    assert run.note is None
    assert _state(run).partition == "2026-03-01"


def write_newest_day(session: Any, run: Any, day: str) -> None:
    """Write the result of task `confounders`, as Airflow stores it."""
    from airflow.models.xcom import XComModel

    key = {"dag_id": run.dag_id, "run_id": run.run_id, "task_id": "confounders"}
    XComModel.set(key="return_value", value=day, session=session, **key)
    session.flush()


def test_the_form_says_that_the_day_is_required_by_hand(bag: Any) -> None:
    param = bag.dags["media_features"].params.get_param("day")
    assert "Required by hand" in param.description
    assert param.schema == {"type": ["null", "string"], "format": "date"}
