"""Runs Airflow on one machine for a checkout: environment, secrets, processes and REST calls.

Used by `debcm airflow`, `debcm ui`, the demo and the end-to-end tests. Production installations run
Airflow as its documentation says and do not need this module.
"""

from __future__ import annotations

import base64
import fcntl
import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.errors import Transient
from pipeline.orchestration.local_lock import AirflowStartError, check_port, lock_home

log = logging.getLogger(__name__)

CHECKOUT = Path(__file__).resolve().parents[2]
# Without --skip-serve-logs, a log server listens on every network interface. The API server reads
# the log files directly.
COMPONENTS = {
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
    "api-server": ["api-server"],
}
START_SECONDS = 300
STOP_SECONDS = 30
# `watch` restarts a component that stopped, at most so often in so many seconds. On SQLite and few
# cores, components can stop because "database is locked".
RESTARTS = 3
RESTART_PERIOD = 3600.0
# The file in which Airflow's simple auth manager looks for passwords.
PASSWORDS = "simple_auth_manager_passwords.json.generated"
# Answers are slow while training and decoding use every core.
ANSWER_SECONDS = 120


class AirflowCallError(Transient):
    """The local Airflow did not answer a REST call, or answered with an error."""


def environment(home: Path = CHECKOUT / ".airflow", port: int = 8080) -> dict[str, str]:
    """Return the environment of every Airflow process of this checkout.

    Args:
        home: AIRFLOW_HOME, with database, logs and secrets (mode 0600).
        port: loopback port of the API server.
    """
    url = f"http://127.0.0.1:{port}"
    keep = {name: v for name, v in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return (
        # Every task is a process; numeric libraries must not start one thread per core in each.
        {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        | keep
        | {
            "DEBCM_HOME": str(CHECKOUT),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW_CONFIG": str(CHECKOUT / "airflow.cfg"),
            # Loopback only, whatever the caller has set: a password is the only protection.
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__BASE_URL": url,
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
            "AIRFLOW_CONN_FS_DEFAULT": json.dumps({"conn_type": "fs"}),
            # `airflow` and the tasks must come from this virtual environment.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        }
        | _secrets(home)
    )


def run_airflow(arguments: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run one `airflow` command; the result has its exit code and output."""
    command = [_program(), *arguments]
    return subprocess.run(command, env=env, text=True, capture_output=True, check=False)


def initialise(env: dict[str, str]) -> None:
    """Create or upgrade Airflow's database, and import the pools.

    Raises:
        AirflowStartError: a command failed; the text has its output.
    """
    for arguments in (
        ["db", "migrate"],
        ["pools", "import", str(CHECKOUT / "deploy" / "pools.json")],
    ):
        done = run_airflow(arguments, env)
        if done.returncode:
            raise AirflowStartError(
                f"airflow {' '.join(arguments)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            )


class LocalAirflow:
    """A context manager that runs scheduler, DAG processor, triggerer and API server.

    Only one can run per AIRFLOW_HOME, because two schedulers on SQLite block each other.

    Args:
        env: the result of `environment`, with any further variables.
        workers: name -> arguments of `airflow`, for executors with separate workers.
    """

    def __init__(
        self, env: dict[str, str], workers: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self.env = env
        self._components = {**COMPONENTS, **(workers or {})}
        self.url = env["AIRFLOW__API__BASE_URL"]
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._restarted: dict[str, list[float]] = {}
        self._token = ""
        self._lock = ExitStack()
        self._home = Path(env["AIRFLOW_HOME"])

    def __enter__(self) -> LocalAirflow:
        """Start the components and wait until they are healthy.

        Raises:
            AirflowStartError: another Airflow runs, the port is in use, or a component stopped.
        """
        logs = self._home / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        try:
            self._process_file = self._lock.enter_context(lock_home(self._home, self.url))
            check_port(int(self.env["AIRFLOW__API__PORT"]))
            initialise(self.env)
            for component in self._components:
                self._start(component)
            self._wait_until_healthy(logs)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop every component by SIGINT, then kill its session with the processes it started."""
        for process in self._processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + STOP_SECONDS
        for process in self._processes.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning(
                    "process %d did not stop within %d s; killing it", process.pid, STOP_SECONDS
                )
            _kill_session(process)
        self._processes.clear()
        self._lock.close()

    def _start(self, component: str) -> None:
        with (self._home / "logs" / f"{component}.log").open("ab") as output:
            self._processes[component] = subprocess.Popen(
                [_program(), *self._components[component]],
                env=self.env,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._process_file.add(component, self._processes[component].pid)

    def ended(self) -> list[str]:
        """Return the names of the components that stopped unexpectedly."""
        return [name for name, process in self._processes.items() if process.poll() is not None]

    def watch(self) -> None:
        """Restart components that stop unexpectedly; never returns.

        Raises:
            AirflowStartError: a component stopped again after `RESTARTS` restarts within
                `RESTART_PERIOD` seconds.
        """
        while True:
            for name in self.ended():
                self._restart(name)
            time.sleep(1)

    def _restart(self, name: str) -> None:
        stopped, now = self._stopped(name), time.monotonic()
        recent = [at for at in self._restarted.get(name, []) if now - at < RESTART_PERIOD]
        if len(recent) >= RESTARTS:
            raise stopped
        log.warning("%s; restarting it (%d of %d)", stopped.summary, len(recent) + 1, RESTARTS)
        self._restarted[name] = [*recent, now]
        # Processes that it started would run beside those of its successor.
        _kill_session(self._processes[name])
        self._start(name)

    def _raise_if_ended(self) -> None:
        for name in self.ended():
            raise self._stopped(name)

    def _stopped(self, name: str) -> AirflowStartError:
        log_file = self._home / "logs" / f"{name}.log"
        lines = log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        last = next((line for line in reversed(lines) if line.strip()), "(empty)")
        code = self._processes[name].returncode
        return AirflowStartError(
            f"{name} stopped unexpectedly with exit code {code}; last line of its log: "
            f"{last.strip()[:300]}",
            where=str(log_file),
        )

    def password(self) -> str:
        """Return the generated password of user `admin`."""
        path = Path(self.env["AIRFLOW_HOME"]) / PASSWORDS
        return str(json.loads(path.read_text())["admin"])

    def token(self) -> str:
        """Return a token of user `admin` for REST calls; it is fetched once.

        Raises:
            AirflowCallError: the API server does not answer, or refuses the login.
        """
        if not self._token:
            login = {"username": "admin", "password": self.password()}
            self._token = str(self._request("POST", "/auth/token", login, {})["access_token"])
        return self._token

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Make a REST call below /api/v2 and return the decoded answer.

        Raises:
            AirflowCallError: there is no answer, or an error answer; its text is included.
            AirflowStartError: a component stopped unexpectedly.
        """
        self._raise_if_ended()
        bearer = {"Authorization": f"Bearer {self.token()}"}
        return self._request(method, f"/api/v2{path}", body, bearer)

    def trigger(
        self, dag_id: str, partition_key: str | None = None, conf: dict[str, Any] | None = None
    ) -> str:
        """Start a DAG run and return its run_id."""
        body = {"logical_date": None, "partition_key": partition_key, "conf": conf or {}}
        return str(self.call("POST", f"/dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def _wait_until_healthy(self, logs: Path) -> None:
        deadline = time.monotonic() + START_SECONDS
        wanted = {"metadatabase", "scheduler", "triggerer", "dag_processor"}
        while time.monotonic() < deadline:
            self._raise_if_ended()
            try:
                health = self._request("GET", "/api/v2/monitor/health", None, {})
            except AirflowCallError:
                health = {}
            healthy = {n for n in wanted if health.get(n, {}).get("status") == "healthy"}
            if healthy == wanted:
                return
            time.sleep(1)
        raise AirflowStartError(
            f"not healthy after {START_SECONDS} s: {', '.join(sorted(wanted - healthy))}",
            where=str(logs),
        )

    def _request(self, method: str, path: str, body: object, headers: dict[str, str]) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 (always our own loopback URL)
            self.url + path,
            data,
            {"Content-Type": "application/json", **headers},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:  # noqa: S310
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            raise AirflowCallError(
                f"{error.code} {error.read().decode(errors='replace')[:500]}", where=path
            ) from error
        except OSError as error:
            raise AirflowCallError(str(error), where=path) from error


def free_port() -> int:
    """Return a loopback port on which nothing listens at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    """Kill a component and the processes that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        log.debug("session %d has no process left", process.pid)
    process.wait()


def _program() -> str:
    """Return the path of `airflow` in this virtual environment."""
    return str(Path(sys.executable).with_name("airflow"))


def _secrets(home: Path) -> dict[str, str]:
    """Return the secrets of this checkout; made once, in files that only the owner can read."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _file_lock(home / ".secrets.lock"):
        # If Airflow had to generate the password, it would write it to its log.
        _read_or_create(home / PASSWORDS, {"admin": secrets.token_urlsafe(18)})
        new = {
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
            "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(48),
            "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        }
        return _read_or_create(home / "secrets.json", new)


def _read_or_create(path: Path, new: dict[str, str]) -> dict[str, str]:
    """Return the content of a private JSON file; if it does not exist, write `new` to it first."""
    if not path.exists():
        aside = path.with_name(f"{path.name}.new")
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as stream:
            json.dump(new, stream)
        aside.replace(path)
    path.chmod(0o600)
    found: dict[str, str] = json.loads(path.read_text())
    return found


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
