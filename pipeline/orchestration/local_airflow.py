"""Airflow on one machine, for a checkout: environment, secrets, processes, REST calls.

Used by `debcm airflow`, `debcm ui`, the demo and the end-to-end tests. In production Airflow
runs as its own documentation says; nothing here is needed there.
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
from pipeline.orchestration.local_lock import AirflowStartError, refuse_taken, run_alone

log = logging.getLogger(__name__)

CHECKOUT = Path(__file__).resolve().parents[2]
# The API server reads the log files itself; log servers would listen on every interface.
COMPONENTS = {
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
    "api-server": ["api-server"],
}
START_SECONDS = 300
STOP_SECONDS = 30
# Where Airflow's simple auth manager looks for passwords.
PASSWORDS = "simple_auth_manager_passwords.json.generated"
# A machine that trains and decodes on every core answers late.
ANSWER_SECONDS = 120


class AirflowCallError(Transient):
    """The local Airflow did not answer a REST call."""


def environment(home: Path = CHECKOUT / ".airflow", port: int = 8080) -> dict[str, str]:
    """The variables under which every Airflow process of this checkout runs.

    Args:
        home: AIRFLOW_HOME: database, logs and the secrets file of mode 0600.
        port: loopback port of the API server.
    """
    url = f"http://127.0.0.1:{port}"
    keep = {name: v for name, v in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return (
        # Numeric libraries must not start a thread a core in every one of the task processes.
        {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        | keep
        | {
            "DEBCM_HOME": str(CHECKOUT),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW_CONFIG": str(CHECKOUT / "airflow.cfg"),
            # Whatever stands in the caller's environment: the password is enough for one machine.
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__BASE_URL": url,
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
            "AIRFLOW_CONN_FS_DEFAULT": json.dumps({"conn_type": "fs"}),
            # `airflow` and the tasks must be this environment's, whatever the caller's PATH.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        }
        | _secrets(home)
    )


def run_airflow(arguments: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run one `airflow` command and return what it printed."""
    command = [_program(), *arguments]
    return subprocess.run(command, env=env, text=True, capture_output=True, check=False)


def initialise(env: dict[str, str]) -> None:
    """Make or upgrade the database, and set the pools.

    Raises:
        AirflowStartError: with what Airflow printed.
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
    """Scheduler, DAG processor, triggerer and API server; a context manager ends them by pid.

    One at a time for an AIRFLOW_HOME: two schedulers on SQLite lock each other out.

    Args:
        env: what `environment` returned, and whatever is set besides.
        workers: name -> arguments of `airflow`, for executors that need workers of their own.
    """

    def __init__(
        self, env: dict[str, str], workers: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self.env = env
        self._components = {**COMPONENTS, **(workers or {})}
        self.url = env["AIRFLOW__API__BASE_URL"]
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._token = ""
        self._alone = ExitStack()
        self._home = Path(env["AIRFLOW_HOME"])

    def __enter__(self) -> LocalAirflow:
        """Start the components, and wait until they are healthy.

        Raises:
            AirflowStartError: another one runs, the port is taken, or a component ended.
        """
        logs = self._home / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        try:
            running = self._alone.enter_context(run_alone(self._home, self.url))
            refuse_taken(int(self.env["AIRFLOW__API__PORT"]))
            initialise(self.env)
            for component, arguments in self._components.items():
                with (logs / f"{component}.log").open("ab") as output:
                    self._processes[component] = subprocess.Popen(
                        [_program(), *arguments],
                        env=self.env,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        stdin=subprocess.DEVNULL,
                        start_new_session=True,
                    )
                running.add(component, self._processes[component].pid)
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
        """End every component and whatever it started: SIGINT, then SIGKILL to its session."""
        for process in self._processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + STOP_SECONDS
        for process in self._processes.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("pid %d did not stop, killing it", process.pid)
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                log.debug("session %d is gone", process.pid)
            process.wait()
        self._processes.clear()
        self._alone.close()

    def ended(self) -> list[str]:
        """Names of the components that have ended by themselves."""
        return [name for name, process in self._processes.items() if process.poll() is not None]

    def watch(self) -> None:
        """Return never: wait until a component ends by itself.

        Raises:
            AirflowStartError: one did.
        """
        while True:
            self._refuse_ended()
            time.sleep(1)

    def _refuse_ended(self) -> None:
        for name in self.ended():
            log_file = self._home / "logs" / f"{name}.log"
            lines = log_file.read_text(encoding="utf-8", errors="replace").splitlines()
            last = next((line for line in reversed(lines) if line.strip()), "nothing")
            code = self._processes[name].returncode
            raise AirflowStartError(
                f"{name} ended by itself, with {code}; it said last: {last.strip()[:300]}",
                where=str(log_file),
            )

    def password(self) -> str:
        """The generated password of user `admin`."""
        path = Path(self.env["AIRFLOW_HOME"]) / PASSWORDS
        return str(json.loads(path.read_text())["admin"])

    def token(self) -> str:
        """A token of user `admin` for REST calls, fetched once.

        Raises:
            AirflowCallError: the API server does not answer, or refuses.
        """
        if not self._token:
            login = {"username": "admin", "password": self.password()}
            self._token = str(self._request("POST", "/auth/token", login, {})["access_token"])
        return self._token

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One REST call below /api/v2.

        Raises:
            AirflowCallError: no answer, or an error answer; with its text.
            AirflowStartError: a component has ended by itself, so that waiting is in vain.
        """
        self._refuse_ended()
        bearer = {"Authorization": f"Bearer {self.token()}"}
        return self._request(method, f"/api/v2{path}", body, bearer)

    def trigger(
        self, dag_id: str, partition_key: str | None = None, conf: dict[str, Any] | None = None
    ) -> str:
        """Start a run and return its run_id."""
        body = {"logical_date": None, "partition_key": partition_key, "conf": conf or {}}
        return str(self.call("POST", f"/dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def _wait_until_healthy(self, logs: Path) -> None:
        deadline = time.monotonic() + START_SECONDS
        wanted = {"metadatabase", "scheduler", "triggerer", "dag_processor"}
        while time.monotonic() < deadline:
            self._refuse_ended()
            try:
                health = self._request("GET", "/api/v2/monitor/health", None, {})
            except AirflowCallError:
                health = {}
            healthy = {n for n in wanted if health.get(n, {}).get("status") == "healthy"}
            if healthy == wanted:
                return
            time.sleep(1)
        raise AirflowStartError(
            f"not healthy after {START_SECONDS} s: {sorted(wanted - healthy)}", where=str(logs)
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
    """A loopback port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _program() -> str:
    """`airflow` of this environment, whatever the caller's PATH."""
    return str(Path(sys.executable).with_name("airflow"))


def _secrets(home: Path) -> dict[str, str]:
    """Secrets of this checkout, made once, in files only the owner can read."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _exclusive(home / ".secrets.lock"):
        # A password that Airflow has to generate itself would stand in its log.
        _kept(home / PASSWORDS, {"admin": secrets.token_urlsafe(18)})
        made = {
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
            "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(48),
            "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        }
        return _kept(home / "secrets.json", made)


def _kept(path: Path, made: dict[str, str]) -> dict[str, str]:
    """What a private file holds; where there is none, `made` is written to it first."""
    if not path.exists():
        aside = path.with_name(f"{path.name}.new")
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as stream:
            json.dump(made, stream)
        aside.replace(path)
    path.chmod(0o600)
    found: dict[str, str] = json.loads(path.read_text())
    return found


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
