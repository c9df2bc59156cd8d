"""Adds the listener that counts deadlines of DAG runs from their start."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from pipeline.orchestration import deadlines


class DebcmDeadlinesPlugin(AirflowPlugin):
    """Registers the listener with Airflow."""

    name = "debcm_deadlines"
    listeners = [deadlines]  # noqa: RUF012
