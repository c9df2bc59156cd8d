"""The demo: a small world, three nights of a real Airflow, and a published release.

    python -m simulation.demo

Renders the world, delivers it day by day into a landing folder, and lets Airflow (scheduler,
LocalExecutor, SQLite) turn each day into features and a model. A second run finds everything
done and extracts nothing.
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
# A night takes a minute and a half; on a machine that is busy, many times that.
PATIENCE_SECONDS = 1800


class DemoError(RuntimeError):
    """A night of the demo did not end as it should."""


class Nights:
    """Runs of the demo's DAGs that start from now on, watched while they go."""

    def __init__(self, airflow: LocalAirflow) -> None:
        self._airflow = airflow
        self._before = {run["dag_run_id"] for dag in DAGS for run in self._all_runs(dag)}
        self._said: dict[tuple[str, str, str, int], str] = {}
        self.extracted = 0

    def run(self, day: dt.date) -> None:
        """One night: features of the day, then the retraining that they trigger.

        Raises:
            DemoError: a run failed, or nothing ended in time.
        """
        trained = {run["dag_run_id"] for run in self._runs("debcm_retrain")}
        self._airflow.trigger("media_features", partition_key=day.isoformat())
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if ended := self._airflow.ended():
                raise DemoError(f"Airflow's {ended[0]} ended; see .airflow/logs")
            runs = [run for dag in DAGS for run in self._runs(dag)]
            for run in runs:
                self._say_tasks(run)
            failed = [run for run in runs if run["state"] == "failed"]
            if failed:
                raise DemoError(
                    f"{failed[0]['dag_id']} {failed[0]['dag_run_id']} failed: `make ui` shows "
                    "where, and so do the files below .airflow/logs"
                )
            retrained = {run["dag_run_id"] for run in runs if run["dag_id"] == "debcm_retrain"}
            if retrained > trained and all(run["state"] in FINAL for run in runs):
                return
            time.sleep(1)
        raise DemoError(f"the night of {day} did not end within {PATIENCE_SECONDS} s")

    def _runs(self, dag_id: str) -> list[dict[str, Any]]:
        return [run for run in self._all_runs(dag_id) if run["dag_run_id"] not in self._before]

    def _all_runs(self, dag_id: str) -> list[dict[str, Any]]:
        page = self._airflow.call("GET", f"/dags/{dag_id}/dagRuns?limit=100&order_by=-id")
        runs: list[dict[str, Any]] = page["dag_runs"]
        return runs

    def _extracted(self, path: str, shard: int) -> int:
        """Clips that one mapped task has extracted, by its own account."""
        result = f"{path}/extract/xcomEntries/return_value?map_index={shard}&deserialize=true"
        return int(self._airflow.call("GET", result)["value"]["extracted"])

    def _say_tasks(self, run: dict[str, Any]) -> None:
        """Print each task once, when it has ended."""
        if self._said.get((run["dag_id"], run["dag_run_id"], "", 0)) in FINAL:
            return
        path = f"/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}/taskInstances"
        tasks = self._airflow.call("GET", path)["task_instances"]
        for task in sorted(tasks, key=lambda task: task["end_date"] or ""):
            key = (run["dag_id"], run["dag_run_id"], task["task_id"], task["map_index"])
            state = task["state"]
            if state not in {"success", "failed", "skipped", "upstream_failed"}:
                continue
            if self._said.get(key) == state:
                continue
            self._said[key] = state
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
        self._said[run["dag_id"], run["dag_run_id"], "", 0] = run["state"]


def main() -> int:
    """Run the demo; 0 when a release was published."""
    started = time.monotonic()
    # Read by every Airflow process, and here.
    os.environ["DEBCM_CONFIG"] = str(SETTINGS)
    os.environ["DEBCM_SCHEDULE__NIGHTLY"] = _half_a_day_from(dt.datetime.now(dt.UTC))
    _say(started, "rendering the world: 150 videos, 12 music videos, 40 tracks, 3 days")
    world = render_world(DEMO / "world", workers=os.cpu_count() or 1)
    days = sorted(
        dt.date.fromisoformat(folder.name.removeprefix("dt="))
        for folder in world.folder.glob("dt=*")
    )
    _say(started, "starting Airflow")
    with LocalAirflow(environment(port=free_port())) as airflow:
        nights = Nights(airflow)
        for dag_id in DAGS:
            _unpause(airflow, dag_id)
        for day in days:
            if day == days[-1] and deliver_late(world.folder, DEMO / "landing"):
                _say(started, f"a late upload changed day {days[0]}")
            deliver_day(world.folder, DEMO / "landing", day)
            _say(started, f"night of {day}")
            decided = _decisions()
            nights.run(day)
            for decision in _decisions()[len(decided) :] or ["nothing new to train on"]:
                _say(started, decision)
    print()
    print(steps.summary(_decided()["run_id"][-1]))
    print(f"clips extracted: {nights.extracted}", end="")
    print("" if nights.extracted else " - everything had features, nothing was extracted again")
    print(f"{time.monotonic() - started:.0f} s. See the runs in the Airflow UI: make ui")
    return 0 if read_current(Store(load_settings().lake)) else 1


def _half_a_day_from(now: dt.datetime) -> str:
    """Cron of the hour farthest from now, for the demo starts its nights itself.

    Airflow makes the first run of a schedule up to a tenth of its period late: a demo begun at
    three would wait for the night of two, whose day nobody delivers.
    """
    return f"0 {(now.hour + 12) % 24} * * *"


def _unpause(airflow: LocalAirflow, dag_id: str) -> None:
    """Wait until the DAG was parsed, then let it run."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = airflow.call("GET", "/dags?limit=100")["dags"]
        if errors := airflow.call("GET", "/importErrors")["import_errors"]:
            raise DemoError(f"{errors[0]['filename']}: {errors[0]['stack_trace']}")
        if any(dag["dag_id"] == dag_id for dag in found):
            airflow.call("PATCH", f"/dags/{dag_id}", {"is_paused": False})
            return
        time.sleep(1)
    raise DemoError(f"Airflow has not found {dag_id}; see .airflow/logs/dag-processor.log")


def _decisions() -> list[str]:
    """The gate's decisions so far, in their order, each with the first rule broken."""
    decisions = []
    for run in _decided().iter_rows(named=True):
        broken = [v["text"] for v in json.loads(run["reasons"])["verdicts"] if not v["passed"]]
        why = f": {broken[0]}" if broken else ""
        decisions.append(f"the gate's decision on {run['run_id']}: {run['decision']}{why}")
    return decisions


def _decided() -> pl.DataFrame:
    return Lake(load_settings().lake).read("runs").sort("finished_at")


def _say(started: float, text: str) -> None:
    print(f"[{time.monotonic() - started:4.0f} s] {text}", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (DemoError, PipelineError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; `make demo` goes on from here")
