"""Steps in processes of their own that can be killed at any line, and lakes to compare.

Processes are forked from a server that has everything imported, so that a kill meets the step's
own work and not the start of Python.
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

# What a step imports when it is called, so that a forked step need not.
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
# When a row was written is no part of what it says; attempts counts tries, killed ones included.
TIMES = ("ingested_at", "finished_at", "erased_at", "failed_at", "attempts")
# How long a shard took is a diary of what was run.
DIARIES = ("extractions",)
GONE_SECONDS = 20.0

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(list(IMPORTED))


@dataclass(frozen=True)
class Outcome:
    """How a step ended: with a result, with an error, or killed."""

    seconds: float
    result: Any = None
    error: str = ""
    message: str = ""
    killed: bool = False
    children: int = 0
    alive: list[int] = field(default_factory=list)


class Steps:
    """Runs steps of the pipeline over one lake, each in a process of its own."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def start(self, step: str, *arguments: Any) -> Running:
        """Start a step; `pipeline.steps` has its name."""
        return self.start_call(call_step, step, *arguments)

    def start_call(self, call: Callable[..., Any], *arguments: Any) -> Running:
        """Start a function of an importable module."""
        return Running(_call, (call, arguments, self.environment))

    def run(self, step: str, *arguments: Any) -> Any:
        """Run a step to its end and return its result; fail where it fails."""
        outcome = self.start(step, *arguments).wait()
        assert not outcome.error, f"{step}{arguments}: {outcome.error}: {outcome.message}"
        return outcome.result


class Running:
    """A call that is running in a process of its own."""

    def __init__(self, call: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        handle, name = tempfile.mkstemp(prefix="fault-", suffix=".json")
        os.close(handle)
        self._answer = Path(name)
        self.process: BaseProcess = _context.Process(target=call, args=(*arguments, name))
        self.process.start()
        self._started = time.monotonic()

    def wait(self, seconds: float = 240) -> Outcome:
        """Wait for its end."""
        self.process.join(seconds)
        took = time.monotonic() - self._started
        if self.process.is_alive():
            self.kill()
            raise AssertionError(f"did not end within {seconds} s")
        return self._outcome(took)

    def kill_after(self, seconds: float) -> Outcome:
        """Wait that long, then kill -9 the process; what it had started must end by itself."""
        self.process.join(seconds)
        took = time.monotonic() - self._started
        if not self.process.is_alive():
            return self._outcome(took)
        return self.kill()

    def kill(self) -> Outcome:
        """Stop the process, note its children, kill -9 it and see whether they end."""
        took = time.monotonic() - self._started
        pid = self.process.pid
        assert pid is not None
        try:
            os.kill(pid, signal.SIGSTOP)
            children = descendants(pid)
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            # It ended by itself a moment before.
            self.process.join()
            return self._outcome(took)
        self.process.join()
        self._answer.unlink(missing_ok=True)
        alive = wait_until_gone(children)
        return Outcome(took, killed=True, children=len(children), alive=alive)

    def _outcome(self, took: float) -> Outcome:
        text = self._answer.read_text(encoding="utf-8")
        self._answer.unlink()
        if not text:
            return Outcome(took, error="Died", message=f"exit code {self.process.exitcode}")
        return Outcome(took, **json.loads(text))


def call_step(step: str, *arguments: Any) -> Any:
    """Run a step in this process."""
    return getattr(steps, step)(*arguments)


def _call(
    call: Callable[..., Any], arguments: tuple[Any, ...], environment: dict[str, str], answer: str
) -> None:
    os.environ.update(environment)
    try:
        said = {"result": call(*arguments)}
    except Exception as error:
        said = {"error": type(error).__name__, "message": str(error)}
    Path(answer).write_text(json.dumps(said, default=str), encoding="utf-8")


def descendants(pid: int) -> list[tuple[int, str]]:
    """Processes below a process, each with the time it started, which makes a pid unique."""
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
    """Wait for processes to end; return those that did not."""
    deadline = time.monotonic() + GONE_SECONDS
    left = processes
    while left and time.monotonic() < deadline:
        left = [(pid, start) for pid, start in left if start and _start_time(pid) == start]
        time.sleep(0.02)
    return [pid for pid, _ in left]


def tables(root: Path) -> dict[str, pl.DataFrame]:
    """What the tables of a lake say, in an order of their own, less times and diaries."""
    lake = Lake(LakeSettings(root=str(root)))
    found = {}
    for name in TABLES:
        if name not in DIARIES:
            rows = lake.read(name)
            rows = rows.drop([column for column in TIMES if column in rows.columns])
            # Versions of tables count commits, and a killed step may have made more of them.
            if "inputs" in rows.columns:
                rows = rows.drop("inputs")
            found[name] = rows.sort(list(TABLES[name].key))
    return found


def differences(one: Path, other: Path) -> list[str]:
    """Tables and folders in which two lakes differ."""
    first, second = tables(one), tables(other)
    found = [name for name in first if not first[name].equals(second[name])]
    ours, theirs = folders(one), folders(other)
    for name in sorted(ours.keys() | theirs.keys()):
        files = set(ours.get(name, {}).items()) ^ set(theirs.get(name, {}).items())
        found += sorted({f"{name}/{file}" for file, _ in files})
    return found


def folders(root: Path) -> dict[str, dict[str, str]]:
    """Folder of the store -> sha256 of each file, less those that name versions of tables."""
    return {
        manifest.parent.relative_to(root).as_posix(): {
            name: digest
            for name, digest in json.loads(manifest.read_text())["sha256"].items()
            if name not in {"meta.json", "manifest.json", "history.json", "model/history.json"}
        }
        for manifest in root.rglob("folder.json")
        if ".aside-" not in manifest.as_posix()
    }


def leftovers(root: Path) -> list[str]:
    """Files and folders that no table and no folder of the store owns, oldest versions aside.

    What a killed step left beside the lake is among them.
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
        homeless = in_store and not any((p / "folder.json").is_file() for p in path.parents)
        data = where.startswith("tables/") and "_delta_log" not in path.parts
        if aside or (path.is_file() and (homeless or (data and path not in owned))):
            left.append(where)
    return sorted(left)


def age(root: Path, seconds: float = 172_800) -> None:
    """Make everything in a lake look as old as that, as if killed tasks had left it long ago."""
    for path in (*root.rglob("*"), *root.parent.glob(f"{root.name}.aside-*")):
        if "_delta_log" not in path.parts or re.search(r"#\d+$|\.tmp$", path.name):
            state = path.stat()
            os.utime(path, (state.st_atime - seconds, state.st_mtime - seconds))


def copy_lake(source: Path, target: Path) -> Path:
    """A lake as another one: its files, not its open handles."""
    shutil.copytree(source, target)
    return target
