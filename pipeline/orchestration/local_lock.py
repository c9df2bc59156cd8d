"""Makes sure that only one local Airflow runs per AIRFLOW_HOME."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import Permanent

# Names the processes of the local Airflow.
_PROCESS_FILE = "running.json"


class AirflowStartError(Permanent):
    """The local Airflow cannot start, or one of its components stopped unexpectedly."""

    remedy = (
        "Do what the message says, or fix the cause that the log file in the message shows, and "
        "start again. Keep the folder .airflow: it has the history of DAG runs and the password."
    )


class ProcessFile:
    """The file that lists the running components, each with its pid and start time.

    The start time tells a component from a later process with the same pid.
    """

    def __init__(self, home: Path, url: str) -> None:
        self._path = home / _PROCESS_FILE
        self._components: dict[str, tuple[int, int | None]] = {}
        self._url = url
        self._write()

    def add(self, component: str, pid: int) -> None:
        """Add a component that has been started."""
        self._components[component] = pid, start_ticks(pid)
        self._write()

    def _write(self) -> None:
        aside = self._path.with_name(f"{_PROCESS_FILE}.new")
        document = {"url": self._url, "pid": os.getpid(), "components": self._components}
        aside.write_text(json.dumps(document), encoding="utf-8")
        aside.replace(self._path)


@contextmanager
def lock_home(home: Path, url: str) -> Iterator[ProcessFile]:
    """Lock an AIRFLOW_HOME until the block or this process ends.

    A killed process can leave its process file, which is ignored, and running components, which
    are an error.

    Args:
        home: AIRFLOW_HOME.
        url: URL of the API server, for the error message of a second process.

    Raises:
        AirflowStartError: another process has the lock, or components of a killed one still run.
    """
    with (home / ".running.lock").open("w") as lock:
        found = _read(home / _PROCESS_FILE)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AirflowStartError(
                f"Airflow already runs at {found.get('url')}. Use that one, or stop it first "
                f"(Ctrl-C in its terminal, or `kill {found.get('pid')}`)",
                where=str(home),
            ) from error
        left = {
            name: pid
            for name, (pid, start) in found.get("components", {}).items()
            if start is not None and start_ticks(pid) == start
        }
        if left:
            pids = " ".join(map(str, left.values()))
            raise AirflowStartError(
                f"components of a killed Airflow still run: {', '.join(left)}. Stop them first: "
                f"`kill {pids}`",
                where=str(home),
            )
        yield ProcessFile(home, url)
        (home / _PROCESS_FILE).unlink(missing_ok=True)


def check_port(port: int) -> None:
    """Check that no process listens on a loopback port; its answers would look like Airflow's.

    Raises:
        AirflowStartError: the port cannot be used.
    """
    with socket.socket() as probe:
        # A port that was closed a moment ago is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
                raise
            raise AirflowStartError(
                f"port {port} cannot be used ({error.strerror}). Choose another one, for example "
                "`debcm ui --port 8081`",
                where=f"127.0.0.1:{port}",
            ) from error


def start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot.

    Returns:
        Field `starttime` of /proc/PID/stat; None if there is no such process, if it is a zombie,
        or if the system has no /proc.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
