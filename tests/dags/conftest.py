"""One DagBag for all policy tests, in an Airflow home of its own."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.orchestration.local_airflow import CHECKOUT
from tests.helpers import airflow_home  # noqa: F401 (before Airflow is imported)


@pytest.fixture(scope="session")
def bag() -> Iterator[Any]:
    with warnings.catch_warnings():
        # Airflow's own imports warn; the tests check what our DAG files do.
        warnings.simplefilter("ignore")
        from airflow.dag_processing.dagbag import DagBag

        yield DagBag(CHECKOUT / "dags")
