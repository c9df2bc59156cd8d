"""Runs steps in processes that can be killed at any time, and compares lakes.

Processes are forked from a server that has already imported everything, so that a kill hits the
work of the step and not the start of Python.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import polars as pl

from pipeline import steps
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.settings.sections import LakeSettings
from tests.helpers.hang_watch import Limit

# Imported once by the fork server: the modules that a step imports when it is called.
IMPORTED = (
    "pipeline.extraction.accounting",
    "pipeline.training.confounders",
    "pipeline.training.dataset",
    "pipeline.upkeep.erasure",
    "pipeline.training.evaluate",
    "pipeline.extraction.extract",
    "pipeline.training.gate",
    "pipeline.ingestion.ingest",
    "pipeline.publishing.publish",
    "pipeline.extraction.shards",
    "pipeline.training.train",
    "pipeline.upkeep.retention",
    "torch.onnx",
    "tests.faults.fault_harness",
)
# Columns that may differ: write times, and attempts, which counts killed tries too.
VARIABLE_COLUMNS = ("ingested_at", "finished_at", "erased_at", "failed_at", "attempts")
# Tables that may differ: extractions records how long each shard took.
VARIABLE_TABLES = ("extractions",)
GONE_SECONDS = 20.0

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(list(IMPORTED))


@dataclass(frozen=True)
class Outcome:
    """How a step ended: with a result, with an error, or killed.

    Attributes:
        seconds: until it ended.
        result: that it returned.
        error: name of the exception, or "Died" if the process ended without an answer.
        message: of the exception.
        killed: whether the harness killed it.
        children: processes below it when it was killed.
        alive: pids of those that did not end afterwards.
    """

    seconds: float
    result: Any = None
    error: str = ""
    message: str = ""
    killed: bool = False
    children: int = 0
    alive: list[int] = field(default_factory=list)


class Steps:
    """Runs steps of the pipeline on one lake, each in its own process."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def start(self, step: str, *arguments: Any) -> Running:
        """Start a step, a function of `pipeline.steps`."""
        return self.start_call(call_step, step, *arguments)

    def start_call(self, call: Callable[..., Any], *arguments: Any) -> Running:
        """Start a function of an importable module."""
        return Running(_call, (call, arguments, self.environment))

    def run(self, step: str, *arguments: Any) -> Any:
        """Run a step to its end and return its result; fail if it fails."""
        outcome = self.start(step, *arguments).wait()
        assert not outcome.error, f"{step}{arguments}: {outcome.error}: {outcome.message}"
        return outcome.result


class Running:
    """A call that is running in its own process."""

    def __init__(self, call: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        handle, name = tempfile.mkstemp(prefix="fault-", suffix=".json")
        os.close(handle)
        self._answer_file = Path(name)
        self.process: BaseProcess = _context.Process(target=call, args=(*arguments, name))
        self.process.start()
        self._started = time.monotonic()

    def wait(self, seconds: float = 240) -> Outcome:
        """Wait until the call ends."""
        limit = Limit(seconds)
        while self.process.is_alive() and not limit.is_reached():
            self.process.join(1)
        took = time.monotonic() - self._started
        if self.process.is_alive():
            self.kill()
            raise AssertionError(f"did not end within {seconds} s")
        return self._outcome(took)

    def kill_after(self, seconds: float) -> Outcome:
        """Wait for some seconds, then `kill` the process if it is still running."""
        self.process.join(seconds)
        took = time.monotonic() - self._started
        if not self.process.is_alive():
            return self._outcome(took)
        return self.kill()

    def kill(self) -> Outcome:
        """Kill the process with SIGKILL, and check whether its children end by themselves."""
        took = time.monotonic() - self._started
        pid = self.process.pid
        assert pid is not None
        try:
            os.kill(pid, signal.SIGSTOP)
            children = descendants(pid)
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            # The process has just ended by itself.
            self.process.join()
            return self._outcome(took)
        self.process.join()
        self._answer_file.unlink(missing_ok=True)
        alive = wait_until_gone(children)
        return Outcome(took, killed=True, children=len(children), alive=alive)

    def _outcome(self, took: float) -> Outcome:
        text = self._answer_file.read_text(encoding="utf-8")
        self._answer_file.unlink()
        if not text:
            return Outcome(took, error="Died", message=f"exit code {self.process.exitcode}")
        return Outcome(took, **json.loads(text))


def call_step(step: str, *arguments: Any) -> Any:
    """Run a step in this process."""
    return getattr(steps, step)(*arguments)


def _call(
    call: Callable[..., Any],
    arguments: tuple[Any, ...],
    environment: dict[str, str],
    answer_file: str,
) -> None:
    os.environ.update(environment)
    try:
        answer = {"result": call(*arguments)}
    except Exception as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    Path(answer_file).write_text(json.dumps(answer, default=str), encoding="utf-8")


def descendants(pid: int) -> list[tuple[int, str]]:
    """Return pid and start time of all processes below a process.

    Pids are reused; pid and start time together are unique.
    """
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found.append((child, _start_time(child)))
            found += descendants(child)
    return found


def _start_time(pid: int) -> str:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    state, *rest = text.rpartition(")")[2].split()
    return "" if state == "Z" else rest[18]


def wait_until_gone(processes: list[tuple[int, str]]) -> list[int]:
    """Wait for processes to end; return the pids of those that did not."""
    limit = Limit(GONE_SECONDS)
    left = processes
    while left and not limit.is_reached():
        left = [(pid, start) for pid, start in left if start and _start_time(pid) == start]
        time.sleep(0.02)
    return [pid for pid, _ in left]


def tables(root: Path) -> dict[str, pl.DataFrame]:
    """Return the sorted rows of all tables that must be equal in lakes with the same data."""
    lake = Lake(LakeSettings(root=str(root)))
    found = {}
    for name in TABLES:
        if name not in VARIABLE_TABLES:
            rows = lake.read(name)
            rows = rows.drop([column for column in VARIABLE_COLUMNS if column in rows.columns])
            # Table versions differ too: a killed step may have made more commits.
            if "inputs" in rows.columns:
                rows = rows.drop("inputs")
            found[name] = rows.sort(list(TABLES[name].key))
    return found


def differences(one: Path, other: Path) -> list[str]:
    """Return the names of the tables and files in which two lakes differ."""
    first, second = tables(one), tables(other)
    found = [name for name in first if not first[name].equals(second[name])]
    ours, theirs = folders(one), folders(other)
    for name in sorted(ours.keys() | theirs.keys()):
        files = set(ours.get(name, {}).items()) ^ set(theirs.get(name, {}).items())
        found += sorted({f"{name}/{file}" for file, _ in files})
    return found


def folders(root: Path) -> dict[str, dict[str, str]]:
    """Return the sha256 of the files of each folder of the store.

    Files that contain table versions are left out.
    """
    return {
        checksums.parent.relative_to(root).as_posix(): {
            name: digest
            for name, digest in json.loads(checksums.read_text())["sha256"].items()
            if name not in {"meta.json", "manifest.json", "history.json", "model/history.json"}
        }
        for checksums in root.rglob("folder.json")
        if ".aside-" not in checksums.as_posix()
    }


def leftovers(root: Path) -> list[str]:
    """Return the files and folders that belong to no table and to no folder of the store.

    Temporary folders that a killed step left beside the lake are included.
    """
    lake = Lake(LakeSettings(root=str(root)))
    owned = set()
    for name in TABLES:
        if (delta := lake.delta(name)) is not None:
            owned |= {Path(uri.removeprefix("file://")) for uri in delta.file_uris()}
    left = [str(path) for path in root.parent.glob(f"{root.name}.aside-*")]
    for path in root.rglob("*"):
        where = path.relative_to(root).as_posix()
        aside = ".aside-" in where or re.search(r"#\d+$|\.tmp$", path.name)
        in_store = not where.startswith("tables/") and where != "releases/current.json"
        unowned = in_store and not any((p / "folder.json").is_file() for p in path.parents)
        data = where.startswith("tables/") and "_delta_log" not in path.parts
        if aside or (path.is_file() and (unowned or (data and path not in owned))):
            left.append(where)
    return sorted(left)


def age(root: Path, seconds: float = 172_800) -> None:
    """Make all files of a lake look older, as if killed tasks had left them long ago."""
    for path in (*root.rglob("*"), *root.parent.glob(f"{root.name}.aside-*")):
        if "_delta_log" not in path.parts or re.search(r"#\d+$|\.tmp$", path.name):
            state = path.stat()
            os.utime(path, (state.st_atime - seconds, state.st_mtime - seconds))


def copy_lake(source: Path, target: Path) -> Path:
    """Copy the files of a lake to a new folder, and return that folder."""
    shutil.copytree(source, target)
    return target
