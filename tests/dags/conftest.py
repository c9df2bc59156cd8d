"""One DagBag and one temporary database for the tests, in an Airflow home of their own."""

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

        yield DagBag(CHECKOUT / "dags", bundle_path=CHECKOUT / "dags")


@pytest.fixture
def session(database: None) -> Iterator[Any]:
    """A session of the temporary database; it is rolled back."""
    from airflow.utils.session import create_session

    with create_session() as session:
        yield session
        session.rollback()


@pytest.fixture(scope="module")
def database(bag: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A temporary SQLite database of Airflow that contains the DAGs of the checkout."""
    patch = pytest.MonkeyPatch()
    path = tmp_path_factory.mktemp("airflow") / "airflow.db"
    patch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", f"sqlite:///{path}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from airflow import settings
        from airflow.dag_processing.bundles.manager import DagBundlesManager
        from airflow.dag_processing.dagbag import sync_bag_to_db
        from airflow.utils.db import initdb

        settings.configure_vars()
        settings.reconfigure_orm()
        initdb()
        DagBundlesManager().sync_bundles_to_db()
        sync_bag_to_db(bag, "dags-folder", None)
        yield
        patch.undo()
        settings.configure_vars()
        settings.reconfigure_orm()
