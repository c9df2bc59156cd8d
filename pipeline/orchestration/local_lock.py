"""Whether an Airflow runs already for a checkout, or was left running by one that was killed."""

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

_RUNNING = "running.json"


class AirflowStartError(Permanent):
    """The local Airflow cannot start, or one of its components ended by itself."""

    remedy = "A log file is named above where there is one; .airflow is made again when deleted."


class Running:
    """The file that says which processes run: pid and start of each, by which it is known again."""

    def __init__(self, home: Path, url: str) -> None:
        self._path = home / _RUNNING
        self._components: dict[str, tuple[int, int | None]] = {}
        self._url = url
        self._write()

    def add(self, component: str, pid: int) -> None:
        """Take down a component."""
        self._components[component] = pid, started(pid)
        self._write()

    def _write(self) -> None:
        aside = self._path.with_name(f"{_RUNNING}.new")
        document = {"url": self._url, "pid": os.getpid(), "components": self._components}
        aside.write_text(json.dumps(document), encoding="utf-8")
        aside.replace(self._path)


@contextmanager
def run_alone(home: Path, url: str) -> Iterator[Running]:
    """Hold an AIRFLOW_HOME, until the block or this process ends.

    A file that a killed process left is stale and in nobody's way; components that it left are.

    Raises:
        AirflowStartError: another process holds it, or components of a killed one still run.
    """
    with (home / ".running.lock").open("w") as lock:
        found = _read(home / _RUNNING)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AirflowStartError(
                f"Airflow runs already, at {found.get('url')}: use that one, or stop it first "
                f"(Ctrl-C, or: kill {found.get('pid')})",
                where=str(home),
            ) from error
        left = {
            name: pid
            for name, (pid, start) in found.get("components", {}).items()
            if start is not None and started(pid) == start
        }
        if left:
            pids = " ".join(map(str, left.values()))
            raise AirflowStartError(
                f"{', '.join(left)} still run since the command that started them was killed; "
                f"end them first: kill {pids}",
                where=str(home),
            )
        yield Running(home, url)
        (home / _RUNNING).unlink(missing_ok=True)


def refuse_taken(port: int) -> None:
    """Fail where something listens on a loopback port: its answers would be taken for Airflow's.

    Raises:
        AirflowStartError: naming the port.
    """
    with socket.socket() as probe:
        # What was closed a moment ago is no listener.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
                raise
            raise AirflowStartError(
                f"port {port} cannot be used ({error.strerror}): choose another, say "
                "`debcm ui --port 8081`",
                where=f"127.0.0.1:{port}",
            ) from error


def started(pid: int) -> int | None:
    """When a process started, in ticks since the machine did; None: no such process, or no /proc.

    A zombie has ended.
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
