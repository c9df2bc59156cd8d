"""The local Airflow starts its components, stops them, and says which of them has stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from pipeline.orchestration import local_airflow
from pipeline.orchestration.local_airflow import LocalAirflow, environment, free_port
from pipeline.orchestration.local_lock import AirflowStartError, start_ticks

PROGRAM = """#!/bin/sh
echo "component $1"
exec sleep 60
"""


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of an Airflow whose components do nothing and are healthy at once."""
    program = tmp_path / "airflow"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    monkeypatch.setattr(local_airflow, "_program", lambda: str(program))
    monkeypatch.setattr(local_airflow, "initialise", lambda _: None)
    healthy = dict.fromkeys(("metadatabase", "scheduler", "triggerer", "dag_processor"))
    answer = {name: {"status": "healthy"} for name in healthy} | {"access_token": "x"}
    monkeypatch.setattr(LocalAirflow, "_request", lambda *_: answer)
    return environment(tmp_path / "home", free_port())


def pids(airflow: LocalAirflow) -> dict[str, int]:
    return {name: process.pid for name, process in airflow._processes.items()}


def test_components_start_and_stop_and_start_again(env) -> None:
    for _ in range(2):
        with LocalAirflow(env) as airflow:
            running = pids(airflow)
            assert set(running) == {"scheduler", "dag-processor", "triggerer", "api-server"}
            assert all(start_ticks(pid) for pid in running.values())
            listed = json.loads(Path(env["AIRFLOW_HOME"], "running.json").read_text())
            assert {name: pid for name, (pid, _) in listed["components"].items()} == running
        assert not any(start_ticks(pid) for pid in running.values())


def test_a_second_airflow_does_not_start_and_does_not_disturb_the_first(env) -> None:
    with LocalAirflow(env) as first:
        with pytest.raises(AirflowStartError, match=f"already runs at {first.url}"):
            LocalAirflow(env).__enter__()
        assert first.ended() == []
        first.call("GET", "/dags")


def test_nothing_is_started_if_the_port_is_in_use(env) -> None:
    port = int(env["AIRFLOW__API__PORT"])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        airflow = LocalAirflow(env)
        with pytest.raises(AirflowStartError, match=f"port {port} .*--port"):
            airflow.__enter__()
        assert pids(airflow) == {}
    with airflow:
        assert airflow.ended() == []


def test_the_error_about_a_killed_component_names_its_log(env) -> None:
    with LocalAirflow(env) as airflow:
        process = airflow._processes["scheduler"]
        deadline = time.monotonic() + 10
        written = Path(env["AIRFLOW_HOME"], "logs", "scheduler.log")
        while not written.read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=10)
        expected = "scheduler stopped unexpectedly with exit code -9; .* log: component scheduler"
        for call in (airflow.watch, lambda: airflow.call("GET", "/dags")):
            with pytest.raises(AirflowStartError, match=expected) as caught:
                call()
            assert "scheduler.log" in str(caught.value)


def test_the_api_server_always_listens_on_loopback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__HOST", "1.2.3.4")
    assert environment(tmp_path)["AIRFLOW__API__HOST"] == "127.0.0.1"
