"""Adds the listeners that count deadlines from the start, and note the days of DAG runs."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from pipeline.orchestration import deadlines, run_notes


class DebcmListenersPlugin(AirflowPlugin):
    """Registers the listeners with Airflow."""

    name = "debcm_listeners"
    listeners = [deadlines, run_notes]  # noqa: RUF012
