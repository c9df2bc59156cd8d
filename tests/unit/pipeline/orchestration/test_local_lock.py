"""The lock of an AIRFLOW_HOME, and the errors that say what blocks the start of Airflow."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.orchestration.local_airflow import free_port
from pipeline.orchestration.local_lock import AirflowStartError, check_port, lock_home, start_ticks

FREE_PID = 2**22 + 1


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def write_process_file(home: Path, components: dict[str, list[int | None]]) -> None:
    document = {"url": "http://127.0.0.1:8080", "pid": 1, "components": components}
    (home / "running.json").write_text(json.dumps(document))


def test_the_process_file_lists_components_until_the_lock_is_released(
    tmp_path: Path, process: subprocess.Popen[bytes]
) -> None:
    file = tmp_path / "running.json"
    with lock_home(tmp_path, "http://127.0.0.1:8080") as processes:
        processes.add("scheduler", process.pid)
        components = json.loads(file.read_text())["components"]
        assert components == {"scheduler": [process.pid, start_ticks(process.pid)]}
    assert not file.exists()


def test_the_error_of_a_second_start_names_url_and_pid(tmp_path: Path) -> None:
    with (
        lock_home(tmp_path, "http://127.0.0.1:8080"),
        pytest.raises(AirflowStartError, match=f"http://127.0.0.1:8080.*kill {os.getpid()}`"),
        lock_home(tmp_path, "http://127.0.0.1:8081"),
    ):
        pass


def test_a_stale_process_file_is_ignored(tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    """Its pids do not exist, or belong to processes that started at another time."""
    file = tmp_path / "running.json"
    file.write_text("{")
    with lock_home(tmp_path, "y"):
        pass
    for component in ([FREE_PID, 5], [process.pid, 5], [process.pid, None]):
        write_process_file(tmp_path, {"scheduler": component})
        with lock_home(tmp_path, "y"):
            pass
        assert not file.exists()


def test_the_error_about_components_of_a_killed_airflow_names_their_pids(
    tmp_path: Path, process: subprocess.Popen[bytes]
) -> None:
    pid = process.pid
    components = {"scheduler": [pid, start_ticks(pid)], "api-server": [FREE_PID, 5]}
    write_process_file(tmp_path, components)
    for _ in range(2):
        with (
            pytest.raises(AirflowStartError, match=f"still run: scheduler.*`kill {pid}`"),
            lock_home(tmp_path, "y"),
        ):
            pass
    process.kill()
    # Nobody has waited for the process, so it is a zombie.
    while start_ticks(pid):
        time.sleep(0.01)
    with lock_home(tmp_path, "y"):
        pass


def test_the_error_about_a_port_in_use_names_the_port() -> None:
    port = free_port()
    check_port(port)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(AirflowStartError, match=f"port {port} .*--port"):
            check_port(port)


def test_start_ticks_tell_processes_with_the_same_pid_apart() -> None:
    assert start_ticks(os.getpid()) == start_ticks(os.getpid())
    assert start_ticks(FREE_PID) is None
