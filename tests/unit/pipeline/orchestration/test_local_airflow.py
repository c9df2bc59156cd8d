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
        written = Path(env["AIRFLOW_HOME"], "logs", "scheduler.log")
        while not written.read_text():
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        expected = "scheduler stopped unexpectedly with exit code -9; .* log: component scheduler"
        with pytest.raises(AirflowStartError, match=expected) as caught:
            airflow.call("GET", "/dags")
        assert "scheduler.log" in str(caught.value)


class Clock:
    """Replaces module `time`: every `sleep` of `watch` kills the scheduler, `gap` seconds later."""

    def __init__(self, airflow: LocalAirflow, gap: float, kills: int) -> None:
        self.airflow = airflow
        self.gap = gap
        self.kills = kills
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, _: float) -> None:
        if not self.kills:
            raise KeyboardInterrupt
        self.kills -= 1
        self.now += self.gap
        process = self.airflow._processes["scheduler"]
        process.kill()
        process.wait()


def test_a_component_that_stops_is_restarted(env, monkeypatch, caplog) -> None:
    """Fault 2 of the on-call list: one "database is locked" stopped everything."""
    with LocalAirflow(env) as airflow:
        first = pids(airflow)
        with monkeypatch.context() as patch:
            patch.setattr(local_airflow, "time", Clock(airflow, gap=1, kills=1))
            with pytest.raises(KeyboardInterrupt):
                airflow.watch()
        second = pids(airflow)
        assert airflow.ended() == []
        assert {name for name in first if first[name] != second[name]} == {"scheduler"}
        listed = json.loads(Path(env["AIRFLOW_HOME"], "running.json").read_text())
        assert listed["components"]["scheduler"][0] == second["scheduler"]
    assert "scheduler stopped unexpectedly with exit code -9" in caplog.text
    assert "restarting it (1 of 3)" in caplog.text
    assert not start_ticks(second["scheduler"])


@pytest.mark.parametrize(("gap", "expected"), [(60, AirflowStartError), (1800, KeyboardInterrupt)])
def test_a_component_that_stops_too_often_stops_everything(
    env, gap: float, expected: type[BaseException], monkeypatch
) -> None:
    with LocalAirflow(env) as airflow, monkeypatch.context() as patch:
        patch.setattr(local_airflow, "time", Clock(airflow, gap, kills=local_airflow.RESTARTS + 2))
        with pytest.raises(expected):
            airflow.watch()


def test_processes_of_a_component_that_stopped_do_not_outlive_it(env, tmp_path: Path) -> None:
    (tmp_path / "airflow").write_text('#!/bin/sh\nsleep 60 &\necho "child $!"\nwait\n')
    with LocalAirflow(env) as airflow:
        log_file = Path(env["AIRFLOW_HOME"], "logs", "scheduler.log")
        while not log_file.read_text():
            time.sleep(0.01)
        child = int(log_file.read_text().split()[1])
        process = airflow._processes["scheduler"]
        process.kill()
        process.wait()
        assert start_ticks(child)
        airflow._restart("scheduler")
        while start_ticks(child):
            time.sleep(0.01)
        assert not start_ticks(child)


def test_the_api_server_always_listens_on_loopback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__HOST", "1.2.3.4")
    assert environment(tmp_path)["AIRFLOW__API__HOST"] == "127.0.0.1"
