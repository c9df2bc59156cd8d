"""Every step of the pipeline as one call: what a DAG's task runs and what `debcm` runs.

Arguments and results are plain JSON values: names, days and counts, never data. Each call reads
the settings in force, so that a task, a retry and a person at the keyboard do the same.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

from pipeline.errors import NotEnoughDataError
from pipeline.lake import Lake
from pipeline.settings import Settings, load_settings
from pipeline.storage.store import Store

log = logging.getLogger(__name__)

Result = dict[str, Any]

# Steps import their modules when called: `debcm status` must not wait for torch, nor a
# decoding task for the model.


def _open() -> tuple[Settings, Lake, Store]:
    settings = load_settings()
    return settings, Lake(settings.lake), Store(settings.lake)


def late_days(day: str) -> dict[str, str]:
    """Days before `day` that changed, or came, after their run: day -> what was delivered."""
    from pipeline.landing.delivery import unfinished_days

    settings, lake, _ = _open()
    first = dt.date.fromisoformat(day) - dt.timedelta(days=settings.landing.lookback_days)
    last = dt.date.fromisoformat(day) - dt.timedelta(days=1)
    unfinished = unfinished_days(settings, lake, first, last)
    return {late.isoformat(): fingerprint for late, fingerprint in unfinished.items()}


def ingest(day: str) -> Result:
    """Read a landing day into catalogue and quarantine."""
    from pipeline.ingest import ingest as step

    settings, lake, _ = _open()
    return asdict(step(settings, lake, dt.date.fromisoformat(day)))


def plan(days: Sequence[str]) -> list[Result]:
    """Cut what lacks features into shards."""
    from pipeline.shards import plan as step

    settings, lake, _ = _open()
    shards = step(settings, lake, [dt.date.fromisoformat(day) for day in days])
    return [asdict(shard) | {"label": shard.label} for shard in shards]


def plan_backfill(
    first_day: str, last_day: str, extractor: str, kind: str, dry_run: bool
) -> list[Result]:
    """Cut what lacks features of ingested days into shards; a dry run only says what they are."""
    from pipeline.backfill import KINDS_OF
    from pipeline.backfill import plan_backfill as step

    settings, lake, _ = _open()
    first, last = dt.date.fromisoformat(first_day), dt.date.fromisoformat(last_day)
    shards = step(settings, lake, first, last, extractor, kind)
    named = [
        asdict(shard) | {"label": shard.label, "extractor": extractor, "kinds": KINDS_OF[kind]}
        for shard in shards
    ]
    return [] if dry_run else named


def extract(
    plan: str,
    shard: int,
    extractor: str = "current",
    kinds: Sequence[Literal["visual", "audio"]] = ("visual", "audio"),
) -> Result:
    """Extract one shard of a plan."""
    from pipeline.extract import extract_shard

    settings, lake, _ = _open()
    settings = settings.with_extractor(extractor)
    return asdict(extract_shard(settings, lake, plan, shard, kinds))


def check(day: str) -> Result:
    """Account for every row of a day."""
    from pipeline.check import check as step

    settings, lake, _ = _open()
    return asdict(step(settings, lake, dt.date.fromisoformat(day)))


def measure_day(ingested: Result, checked: Result, shards: Sequence[Result]) -> dict[str, float]:
    """Metrics of a day, from what its tasks returned."""
    from pipeline.reporting.metrics import of_day

    return of_day(_open()[1], ingested, checked, shards)


def measure_run(decision: Result) -> dict[str, float]:
    """Metrics of a run that the gate has decided on."""
    from pipeline.evaluate import load_metrics
    from pipeline.reporting.metrics import of_run

    return of_run(load_metrics(_open()[2], decision["run_id"]), decision)


def is_settled(run_id: str) -> bool:
    """Whether nothing is left to do for a run: the same data was here, and refused or published."""
    from pipeline.releases.publish import is_settled as step

    return step(*_open(), run_id)


def run_ids() -> list[str]:
    """The runs that are kept, oldest first; none where there is no lake."""
    return sorted(_open()[2].children("runs"))


def newest_day() -> str:
    """The newest day whose features are complete.

    Raises:
        NotEnoughDataError: there is none.
    """
    _, lake, _ = _open()
    newest = lake.read("feature_days")["dt"].max()
    if not isinstance(newest, dt.date):
        raise NotEnoughDataError("no day has features yet", where="feature_days")
    return newest.isoformat()


def confounders(as_of: str) -> Result:
    """Write the uploaders' genre preferences."""
    from pipeline.confounders import summarise

    settings, lake, _ = _open()
    return asdict(summarise(settings, lake, dt.date.fromisoformat(as_of)))


def dataset(as_of: str) -> Result:
    """Write the arrays of a run; its `run_id` names the run from here on."""
    from pipeline.dataset import build

    settings, lake, store = _open()
    return asdict(build(settings, lake, store, dt.date.fromisoformat(as_of)))


def teacher(run_id: str) -> Result:
    """Train the teacher on professional music videos."""
    from pipeline.training import train_teacher_step

    settings, _, store = _open()
    return asdict(train_teacher_step(settings, store, run_id))


def student(run_id: str) -> Result:
    """Train the student on uploaders' picks."""
    from pipeline.training import train_student_step

    settings, _, store = _open()
    return asdict(train_student_step(settings, store, run_id))


def evaluate(run_id: str) -> Result:
    """Score challenger, champion and baselines on the held-out picks."""
    from pipeline.evaluate import evaluate as step

    settings, _, store = _open()
    return asdict(step(settings, store, run_id))


def gate(run_id: str, force: tuple[str, str] | None = None) -> Result:
    """Decide whether the run may be published; `force`: who overrules a refusal, and why."""
    from pipeline.gate import Force, decide

    settings, lake, store = _open()
    forced = Force(*force) if force else None
    return asdict(decide(settings, lake, store, run_id, forced))


def publish(run_id: str) -> Result:
    """Write the release and make it current."""
    from pipeline.releases.publish import publish as step

    settings, lake, store = _open()
    return asdict(step(settings, lake, store, run_id))


def report(run_id: str) -> Result:
    """Write the HTML report of a run that the gate has decided on."""
    from pipeline.reporting.report import write_report

    return asdict(write_report(*_open(), run_id))


def summary(run_id: str) -> str:
    """The report of a run on one terminal screen."""
    from pipeline.reporting.summary import summary as step

    return step(*_open(), run_id)


def status() -> str:
    """How things stand, on one terminal screen."""
    from pipeline.reporting.dag_runs import dag_runs
    from pipeline.reporting.status import place_text, read_status, status_text

    settings, lake, store = _open()
    now = dt.datetime.now(dt.UTC)
    found = read_status(settings, lake, store, now)
    return f"{place_text(settings)}\n{status_text(found, dag_runs(now), now)}"


def quarantine(day: str) -> str:
    """Every row of a landing day that was rejected, a line each."""
    from pipeline.reporting.status import quarantine_text

    return quarantine_text(_open()[1], dt.date.fromisoformat(day))


def apply_deletions() -> Result:
    """Let deletion requests reach every table, run and release."""
    from pipeline.deletion import apply_deletions as step

    return asdict(step(*_open()))


def retention(*, dry_run: bool = False) -> Result:
    """Remove what killed tasks left, and runs and releases that are past their time."""
    from pipeline.upkeep import retention as step

    return asdict(step(*_open(), dry_run=dry_run))


def compaction() -> Result:
    """Compact every table and vacuum its old versions."""
    from pipeline.upkeep import compaction as step

    settings, lake, _ = _open()
    return step(settings, lake)


def sizes() -> Result:
    """Rows, files and bytes of every table."""
    from pipeline.upkeep import sizes as step

    return step(_open()[1])
