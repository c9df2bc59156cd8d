"""Notes of DAG runs; tests/dags/test_run_notes.py checks them inside Airflow."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pipeline.orchestration.run_notes import on_dag_run_running, retrained_day


@pytest.mark.parametrize(
    ("dag_id", "conf", "length"),
    [("media_features", {"day": "x" * 2000}, 1000), ("a_dag_of_others", {"day": "x"}, None)],
)
def test_only_our_runs_have_notes_and_no_note_is_too_long(
    dag_id: str, conf: dict[str, str], length: int | None
) -> None:
    from airflow.models.dagrun import DagRun

    run = DagRun(dag_id=dag_id, run_id="r1", conf=conf)
    on_dag_run_running(run)
    assert (run.note and len(run.note)) == length


def test_only_a_retraining_has_a_retrained_day() -> None:
    assert retrained_day(SimpleNamespace(dag_id="media_features")) == ""
