"""Runs the demo: a real Airflow instance processes three days of a small world.

    python -m simulation.demo

Renders the world, delivers it day by day to a landing folder, and lets Airflow (scheduler,
LocalExecutor, SQLite) extract features and train a model for each day. A second call extracts
nothing, because all features exist.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
import time
from typing import Any

import polars as pl

from pipeline import steps
from pipeline.errors import PipelineError
from pipeline.lake.tables import Lake
from pipeline.orchestration.local_airflow import CHECKOUT, LocalAirflow, environment, free_port
from pipeline.releases.current import read_current
from pipeline.settings.load import load_settings
from pipeline.storage.store import Store
from simulation.landing import deliver_day, deliver_late
from simulation.render import render_world

DEMO = CHECKOUT / "demo"
SETTINGS = CHECKOUT / "simulation" / "demo.toml"
DAGS = ("media_features", "debcm_retrain")
FINAL = {"success", "failed"}
# A day takes about 90 s, and much longer on a busy machine.
TIMEOUT_SECONDS = 1800


class DemoError(RuntimeError):
    """A DAG run of the demo failed or did not end."""


class DagRuns:
    """Starts DAG runs of the demo and prints their tasks as they end.

    Attributes:
        extracted: number of clips extracted so far.
    """

    def __init__(self, airflow: LocalAirflow) -> None:
        self._airflow = airflow
        self._before = {run["dag_run_id"] for dag in DAGS for run in self._all_runs(dag)}
        self._printed: dict[tuple[str, str, str, int], str] = {}
        self.extracted = 0

    def process_day(self, day: dt.date) -> None:
        """Process a landing day: run `media_features`, then the retraining that it triggers.

        Raises:
            DemoError: a DAG run failed or did not end in time.
        """
        trained = {run["dag_run_id"] for run in self._runs("debcm_retrain")}
        self._airflow.trigger("media_features", partition_key=day.isoformat())
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            if ended := self._airflow.ended():
                raise DemoError(f"Airflow's {ended[0]} stopped.\nRead its log in .airflow/logs.")
            runs = [run for dag in DAGS for run in self._runs(dag)]
            for run in runs:
                self._print_ended_tasks(run)
            failed = [run for run in runs if run["state"] == "failed"]
            if failed:
                raise DemoError(
                    f"The DAG run {failed[0]['dag_id']} {failed[0]['dag_run_id']} failed.\n"
                    "Find the failed task with `make ui`, or read the logs in .airflow/logs."
                )
            retrained = {run["dag_run_id"] for run in runs if run["dag_id"] == "debcm_retrain"}
            if retrained > trained and all(run["state"] in FINAL for run in runs):
                return
            time.sleep(1)
        raise DemoError(f"The DAG runs of day {day} did not end within {TIMEOUT_SECONDS} s.")

    def _runs(self, dag_id: str) -> list[dict[str, Any]]:
        return [run for run in self._all_runs(dag_id) if run["dag_run_id"] not in self._before]

    def _all_runs(self, dag_id: str) -> list[dict[str, Any]]:
        page = self._airflow.call("GET", f"/dags/{dag_id}/dagRuns?limit=100&order_by=-id")
        runs: list[dict[str, Any]] = page["dag_runs"]
        return runs

    def _extracted(self, path: str, shard: int) -> int:
        """Return the number of clips that a mapped task extracted, from its result."""
        result = f"{path}/extract/xcomEntries/return_value?map_index={shard}&deserialize=true"
        return int(self._airflow.call("GET", result)["value"]["extracted"])

    def _print_ended_tasks(self, run: dict[str, Any]) -> None:
        if self._printed.get((run["dag_id"], run["dag_run_id"], "", 0)) in FINAL:
            return
        path = f"/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}/taskInstances"
        tasks = self._airflow.call("GET", path)["task_instances"]
        for task in sorted(tasks, key=lambda task: task["end_date"] or ""):
            key = (run["dag_id"], run["dag_run_id"], task["task_id"], task["map_index"])
            state = task["state"]
            if state not in {"success", "failed", "skipped", "upstream_failed"}:
                continue
            if self._printed.get(key) == state:
                continue
            self._printed[key] = state
            label = task.get("rendered_map_index") or ""
            if task["task_id"] == "extract" and state == "success":
                self.extracted += self._extracted(path, task["map_index"])
            seconds = f"{task['duration']:.1f} s" if task["duration"] else ""
            partition = run.get("partition_key") or (run.get("conf") or {}).get("day", "")
            print(
                f"  {run['dag_id']:<15}{partition:<12}{task['task_id']:<24}"
                f"{state:<9}{seconds:>8}  {label}",
                flush=True,
            )
        self._printed[run["dag_id"], run["dag_run_id"], "", 0] = run["state"]


def main() -> int:
    """Run the demo.

    Returns:
        The exit code: 0 if there is a release at the end, else 1.
    """
    started = time.monotonic()
    # The Airflow processes inherit these variables.
    os.environ["DEBCM_CONFIG"] = str(SETTINGS)
    os.environ["DEBCM_SCHEDULE__NIGHTLY"] = _schedule_away_from(dt.datetime.now(dt.UTC))
    _print_time(started, "rendering the world: 150 videos, 12 music videos, 40 tracks, 3 days")
    world = render_world(DEMO / "world", workers=os.cpu_count() or 1)
    days = sorted(
        dt.date.fromisoformat(folder.name.removeprefix("dt="))
        for folder in world.folder.glob("dt=*")
    )
    _print_time(started, "starting Airflow")
    with LocalAirflow(environment(port=free_port())) as airflow:
        dag_runs = DagRuns(airflow)
        for dag_id in DAGS:
            _unpause(airflow, dag_id)
        for day in days:
            if day == days[-1] and deliver_late(world.folder, DEMO / "landing"):
                _print_time(started, f"day {days[0]} got one more upload")
            deliver_day(world.folder, DEMO / "landing", day)
            _print_time(started, f"processing day {day}")
            before = len(_decisions())
            dag_runs.process_day(day)
            for decision in _decisions()[before:] or ["no new data, so no new model"]:
                _print_time(started, decision)
    print()
    print(steps.summary(_decided_runs()["run_id"][-1]))
    print(f"clips extracted: {dag_runs.extracted}", end="")
    print("" if dag_runs.extracted else " (every clip had features already)")
    print(f"done in {time.monotonic() - started:.0f} s. `make ui` shows the DAG runs in Airflow.")
    return 0 if read_current(Store(load_settings().lake)) else 1


def _schedule_away_from(now: dt.datetime) -> str:
    """Return a daily cron schedule twelve hours from now.

    The demo triggers its DAG runs itself. Airflow creates the first run of a schedule up to a tenth
    of its period late, so that a schedule close to now would start a DAG run for a day that the
    demo does not deliver.
    """
    return f"0 {(now.hour + 12) % 24} * * *"


def _unpause(airflow: LocalAirflow, dag_id: str) -> None:
    """Wait until Airflow has parsed the DAG, then unpause it."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = airflow.call("GET", "/dags?limit=100")["dags"]
        if errors := airflow.call("GET", "/importErrors")["import_errors"]:
            raise DemoError(f"{errors[0]['filename']}: {errors[0]['stack_trace']}")
        if any(dag["dag_id"] == dag_id for dag in found):
            airflow.call("PATCH", f"/dags/{dag_id}", {"is_paused": False})
            return
        time.sleep(1)
    raise DemoError(f"Airflow did not find {dag_id}.\nRead .airflow/logs/dag-processor.log.")


def _decisions() -> list[str]:
    """Return the gate's decisions so far in order, each with the first broken rule."""
    decisions = []
    for run in _decided_runs().iter_rows(named=True):
        broken = [v["text"] for v in json.loads(run["reasons"])["verdicts"] if not v["passed"]]
        why = f": {broken[0]}" if broken else ""
        decisions.append(f"gate decision on run {run['run_id']}: {run['decision']}{why}")
    return decisions


def _decided_runs() -> pl.DataFrame:
    return Lake(load_settings().lake).read("runs").sort("finished_at")


def _print_time(started: float, text: str) -> None:
    print(f"[{time.monotonic() - started:4.0f} s] {text}", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (DemoError, PipelineError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; `make demo` continues from here")
