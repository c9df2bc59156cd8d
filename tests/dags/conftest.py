"""One DagBag for all policy tests, in an Airflow home of its own."""

import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.orchestration.local_airflow import CHECKOUT, environment

# Airflow reads these once, when it is first imported.
HOME = tempfile.TemporaryDirectory(prefix="debcm-dagbag-")
os.environ.update(environment(home=Path(HOME.name)))


@pytest.fixture(scope="session")
def bag() -> Iterator[Any]:
    with warnings.catch_warnings():
        # Airflow's own imports warn; what our DAG files do is judged by the tests.
        warnings.simplefilter("ignore")
        from airflow.dag_processing.dagbag import DagBag

        yield DagBag(CHECKOUT / "dags")
