"""Creates and starts DAG runs in Airflow's database, as the REST API and the scheduler do."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Any

_numbers = itertools.count()


def make_run(session: Any, dag_id: str, run_type: str = "manual", **fields: Any) -> Any:
    """Create a queued DAG run; `fields` are further arguments of Airflow's `create_dagrun`."""
    from airflow.models.dagbag import DBDagBag
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    dag = DBDagBag().get_latest_version_of_dag(dag_id, session=session)
    assert dag is not None
    run = dag.create_dagrun(
        run_id=f"run-{next(_numbers)}",
        run_after=dt.datetime.now(dt.UTC),
        run_type=DagRunType(run_type),
        triggered_by=DagRunTriggeredByType.REST_API,
        state=DagRunState.QUEUED,
        session=session,
        **fields,
    )
    session.flush()
    return run


def start(session: Any, run: Any) -> None:
    """Start a queued DAG run."""
    from airflow.utils.state import DagRunState

    run.state = DagRunState.RUNNING
    run.start_date = dt.datetime.now(dt.UTC)
    run.notify_dagrun_state_changed(msg="started")
    session.flush()
