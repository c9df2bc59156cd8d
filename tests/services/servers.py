"""Starts PostgreSQL, Redis and an S3 server on loopback, each in its own process."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.orchestration.local_airflow import free_port
from tests.helpers.hang_watch import Limit

START_SECONDS = 60


@contextmanager
def postgres() -> Iterator[str]:
    """Start PostgreSQL with an empty database; yield its SQLAlchemy URL."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        pytest.skip("needs the Debian package postgresql")
    # PostgreSQL refuses to run as root, and only root may enter pytest's temporary folder.
    with tempfile.TemporaryDirectory(prefix="debcm-postgres-") as home:
        user = _as_nobody(Path(home))
        data, port = Path(home) / "data", free_port()
        subprocess.run(
            [found[-1] / "initdb", "-D", data, "-U", "debcm", "--auth=trust", "-E", "UTF8"],
            check=True,
            capture_output=True,
            **user,
        )
        command = [found[-1] / "postgres", "-D", data, "-p", str(port), "-k", home, "-F"]
        # SIGINT: a fast shutdown, which disconnects clients.
        with _process(command, port, signal.SIGINT, cwd=home, **user):
            yield f"postgresql+psycopg2://debcm@127.0.0.1:{port}/postgres"


@contextmanager
def redis() -> Iterator[str]:
    """Start an empty Redis that stores nothing on disk; yield its URL."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("needs the Debian package redis-server")
    port = free_port()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with _process([*command, "--appendonly", "no"], port):
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def s3(bucket: str) -> Iterator[str]:
    """Start an S3 server with an empty bucket; yield its URL.

    The credentials of the client must be in the environment.
    """
    pytest.importorskip("moto.server")
    import boto3

    port = free_port()
    with _process([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port):
        endpoint = f"http://127.0.0.1:{port}"
        client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
        client.create_bucket(Bucket=bucket)
        client.close()
        yield endpoint


def _as_nobody(home: Path) -> dict[str, Any]:
    if os.getuid():
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


@contextmanager
def _process(
    command: Sequence[str | Path], port: int, stop_signal: int = signal.SIGTERM, **options: Any
) -> Iterator[None]:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options
        )
        try:
            _wait_until(lambda: _answers(port) or process.poll() is not None, command)
            assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
            yield
        finally:
            process.send_signal(stop_signal)
            process.wait(timeout=30)


def _wait_until(reached: Callable[[], bool], command: Sequence[str | Path]) -> None:
    limit = Limit(START_SECONDS)
    while not reached():
        assert not limit.is_reached(), f"{command[0]} does not answer after {START_SECONDS} s"
        time.sleep(0.2)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
