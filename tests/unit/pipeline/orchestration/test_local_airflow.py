"""What stands in a local Airflow's way is named: another one, what is left of one, a taken port."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.orchestration import local_airflow
from pipeline.orchestration.local_airflow import LocalAirflow, environment, free_port
from pipeline.orchestration.local_lock import AirflowStartError, run_alone, started

PROGRAM = """#!/bin/sh
echo "component $1"
exec sleep 60
"""


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of an Airflow whose components do nothing, and are healthy at once."""
    program = tmp_path / "airflow"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    monkeypatch.setattr(local_airflow, "_program", lambda: str(program))
    monkeypatch.setattr(local_airflow, "initialise", lambda _: None)
    healthy = dict.fromkeys(("metadatabase", "scheduler", "triggerer", "dag_processor"))
    answer = {name: {"status": "healthy"} for name in healthy} | {"access_token": "x"}
    monkeypatch.setattr(LocalAirflow, "_request", lambda *_: answer)
    return environment(tmp_path / "home", free_port())


@pytest.fixture
def left_running() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait(timeout=10)


def pids(airflow: LocalAirflow) -> dict[str, int]:
    return {name: process.pid for name, process in airflow._processes.items()}


def test_components_run_and_end_and_can_start_again(env) -> None:
    for _ in range(2):
        with LocalAirflow(env) as airflow:
            running = pids(airflow)
            assert set(running) == {"scheduler", "dag-processor", "triggerer", "api-server"}
            assert all(started(pid) for pid in running.values())
        assert not any(started(pid) for pid in running.values())


def test_a_second_one_is_told_of_the_first(env) -> None:
    with LocalAirflow(env) as first:
        with pytest.raises(AirflowStartError, match=f"runs already, at {first.url}.*{os.getpid()}"):
            LocalAirflow(env).__enter__()
        assert first.ended() == []
        first.call("GET", "/dags")


def test_a_stale_file_of_processes_is_in_nobodys_way(env, left_running) -> None:
    """The pids are those of nobody, or of another process by now."""
    home = Path(env["AIRFLOW_HOME"])
    for text in (
        "{",
        json.dumps({"url": "x", "pid": 1, "components": {"scheduler": [2**22 + 1, 5]}}),
        json.dumps({"url": "x", "pid": 1, "components": {"scheduler": [left_running.pid, 5]}}),
        json.dumps({"url": "x", "pid": 1, "components": {"scheduler": [left_running.pid, None]}}),
    ):
        (home / "running.json").write_text(text)
        with run_alone(home, "y"):
            pass
        assert not (home / "running.json").exists()


def test_what_a_killed_one_left_running_is_named_with_how_to_end_it(env, left_running) -> None:
    home, pid = Path(env["AIRFLOW_HOME"]), left_running.pid
    components = {"scheduler": [pid, started(pid)], "api-server": [2**22 + 1, 5]}
    document = {"url": env["AIRFLOW__API__BASE_URL"], "pid": 1, "components": components}
    (home / "running.json").write_text(json.dumps(document))
    for _ in range(2):
        with pytest.raises(AirflowStartError, match=f"scheduler still run.*: kill {pid}\\."):
            LocalAirflow(env).__enter__()
    left_running.kill()
    # Ended, and not waited for: a zombie.
    deadline = time.monotonic() + 10
    while started(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    with LocalAirflow(env):
        pass


def test_a_taken_port_is_named_and_nothing_is_started(env) -> None:
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


def test_a_component_that_is_killed_is_named_with_its_log(env) -> None:
    with LocalAirflow(env) as airflow:
        process = airflow._processes["scheduler"]
        deadline = time.monotonic() + 10
        written = Path(env["AIRFLOW_HOME"], "logs", "scheduler.log")
        while not written.read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=10)
        said = r"scheduler ended by itself, with -9; it said last: component scheduler"
        for call in (airflow.watch, lambda: airflow.call("GET", "/dags")):
            with pytest.raises(AirflowStartError, match=said) as caught:
                call()
            assert "scheduler.log" in str(caught.value)


def test_the_server_listens_on_loopback_whatever_the_caller_has_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__HOST", "1.2.3.4")
    assert environment(tmp_path)["AIRFLOW__API__HOST"] == "127.0.0.1"
