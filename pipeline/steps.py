"""Defines every step of the pipeline as one function, for Airflow tasks and `debcm` commands.

Arguments and results are JSON values: names, days and counts, never data. Each function loads the
settings itself, so that a task, a retry and a command do the same work. A step is implemented in
the module that its function imports.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pipeline.context import Context
from pipeline.errors import FutureDayError, NotEnoughDataError

log = logging.getLogger(__name__)

Result = dict[str, Any]

# Each function imports its module when it is called: neither `debcm status` nor a decoding task
# should wait for the import of torch.


def late_days(day: str) -> dict[str, str]:
    """Return the earlier days whose delivery is new or changed: day -> its fingerprint."""
    from pipeline.ingestion import delivery

    context = Context.load()
    first = dt.date.fromisoformat(day) - dt.timedelta(days=context.settings.landing.lookback_days)
    last = dt.date.fromisoformat(day) - dt.timedelta(days=1)
    unfinished = delivery.unfinished_days(context, first, last)
    return {late.isoformat(): fingerprint for late, fingerprint in unfinished.items()}


def missed_days() -> list[str]:
    """Return the complete days that no night will ingest, because they are too old, in order."""
    from pipeline.ingestion import delivery

    context = Context.load()
    today = dt.datetime.now(dt.UTC).date()
    return [day.isoformat() for day in delivery.missed_days(context.settings, context.lake, today)]


def ingest(day: str) -> Result:
    """Read a landing day into the catalogue and the quarantine."""
    from pipeline.ingestion import ingest

    return asdict(ingest.run(Context.load(), dt.date.fromisoformat(day)))


def plan(days: Sequence[str]) -> list[Result]:
    """Plan the extraction of clips that lack features, in shards."""
    from pipeline.extraction import shards

    planned = shards.plan(Context.load(), [dt.date.fromisoformat(day) for day in days])
    return [asdict(shard) | {"label": shard.label} for shard in planned]


def plan_backfill(
    first_day: str, last_day: str, extractor: str, kind: str, dry_run: bool
) -> list[Result]:
    """Plan the extraction of ingested days, in shards; a dry run only logs the plan."""
    from pipeline.extraction import backfill

    first, last = dt.date.fromisoformat(first_day), dt.date.fromisoformat(last_day)
    planned = backfill.plan(Context.load(), first, last, extractor, kind)
    kinds = tuple(map(str, backfill.MODALITIES_OF[kind]))
    shards = [
        asdict(shard) | {"label": shard.label, "extractor": extractor, "kinds": kinds}
        for shard in planned
    ]
    return [] if dry_run else shards


def extract(
    plan: str,
    shard: int,
    extractor: str = "current",
    kinds: Sequence[str] = ("visual", "audio"),
) -> Result:
    """Extract one shard of a plan."""
    from pipeline.extraction import extract
    from pipeline.extraction.clips import Modality

    context = Context.load().with_extractor(extractor)
    modalities = [Modality(kind) for kind in kinds]
    return asdict(extract.run(context, plan, shard, modalities))


def check(day: str) -> Result:
    """Check that each row of a day has features or is in quarantine."""
    from pipeline.extraction import accounting

    return asdict(accounting.check(Context.load(), dt.date.fromisoformat(day)))


def measure_day(ingested: Result, checked: Result, shards: Sequence[Result]) -> dict[str, float]:
    """Return the metrics of a landing day from the results of its tasks, by name."""
    from pipeline.reporting import metrics

    return metrics.of_day(Context.load().lake, ingested, checked, shards, len(missed_days()))


def measure_run(decision: Result) -> dict[str, float]:
    """Return the metrics of a run from the gate's decision, by name."""
    from pipeline.reporting import metrics
    from pipeline.training import evaluate

    return metrics.of_run(evaluate.load_metrics(Context.load().store, decision["run_id"]), decision)


def is_settled(run_id: str) -> bool:
    """Return whether a run needs no further work: it was refused or published already."""
    from pipeline.publishing import publish

    return publish.is_settled(Context.load(), run_id)


def run_ids() -> list[str]:
    """Return the ids of the kept runs, oldest first; none if there is no lake."""
    return sorted(Context.load().store.children("runs"))


def newest_day() -> str:
    """Return the newest day whose features are complete.

    Raises:
        NotEnoughDataError: no day has complete features.
    """
    newest = Context.load().lake.read("feature_days")["dt"].max()
    if not isinstance(newest, dt.date):
        raise NotEnoughDataError("no landing day has complete features yet", where="feature_days")
    return newest.isoformat()


def confounders(as_of: str) -> Result:
    """Compute and write the uploaders' genre preferences.

    Raises:
        FutureDayError: no day so late was ingested.
    """
    from pipeline.training import confounders

    context = Context.load()
    return asdict(confounders.run(context, _ingested_by(context, as_of)))


def dataset(as_of: str) -> Result:
    """Write the training data of a run; later steps take its `run_id`.

    Raises:
        FutureDayError: no day so late was ingested.
    """
    from pipeline.training import dataset

    context = Context.load()
    return asdict(dataset.build(context, _ingested_by(context, as_of)))


def _ingested_by(context: Context, as_of: str) -> dt.date:
    """Parse a day, and refuse one after the newest ingested day.

    Preferences and runs of such a day would count as the newest for ever.
    """
    day = dt.date.fromisoformat(as_of)
    known: set[dt.date] = set()
    for table in ("landing_days", "feature_days"):
        known.update(context.lake.read(table)["dt"])
    if known and day > max(known):
        newest = max(known).isoformat()
        raise FutureDayError(f"The newest ingested day is {newest}", where=as_of)
    return day


def teacher(run_id: str) -> Result:
    """Train the teacher on professional music videos."""
    from pipeline.training import train

    return asdict(train.teacher(Context.load(), run_id))


def student(run_id: str) -> Result:
    """Train the student on uploaders' picks."""
    from pipeline.training import train

    return asdict(train.student(Context.load(), run_id))


def evaluate(run_id: str) -> Result:
    """Evaluate challenger, champion and baselines on the held-out picks."""
    from pipeline.training import evaluate

    return asdict(evaluate.run(Context.load(), run_id))


def gate(run_id: str, force: tuple[str, str] | None = None) -> Result:
    """Decide whether the run may be published.

    Args:
        run_id: the run.
        force: name and reason of a person who overrules a refusal; None: do not overrule.
    """
    from pipeline.training import gate

    forced = gate.ForceRequest(*force) if force else None
    return asdict(gate.decide(Context.load(), run_id, forced))


def publish(run_id: str) -> Result:
    """Write the release of a run and make it current."""
    from pipeline.publishing import publish

    return asdict(publish.run(Context.load(), run_id))


def report(run_id: str) -> Result:
    """Write the HTML report of a run after the gate has decided."""
    from pipeline.reporting import report

    return asdict(report.run(Context.load(), run_id))


def summary(run_id: str) -> str:
    """Return the report of a run as text for one terminal screen."""
    from pipeline.reporting import summary

    return summary.text(Context.load(), run_id)


def status() -> str:
    """Return the state of days, tables, release and DAG runs as text for one terminal screen."""
    from pipeline.orchestration import dag_runs
    from pipeline.reporting import status

    context, now = Context.load(), dt.datetime.now(dt.UTC)
    found = status.read(context, now)
    text = status.status_text(found, dag_runs.active_and_failed(now), now)
    return f"{status.place_text(context.settings)}\n{text}"


def quarantine(day: str) -> str:
    """Return every rejected row of a landing day, one per line."""
    from pipeline.reporting import status

    return status.quarantine_text(Context.load().lake, dt.date.fromisoformat(day))


def apply_deletions() -> Result:
    """Read every complete day's deletion requests; apply them to every table, run and release.

    Raises:
        PipelineError: requests cannot be read; all others are applied.
    """
    from pipeline.ingestion import deletion_requests
    from pipeline.upkeep import erasure

    context = Context.load()
    errors = deletion_requests.record_all_deletions(context)
    for error in errors:
        log.error("deletion requests: %s", error.summary)
    erased = asdict(erasure.run(context))
    if errors:
        raise errors[0]
    return erased


def retention(*, dry_run: bool = False) -> Result:
    """Remove leftovers of killed tasks, and runs and releases older than their retention."""
    from pipeline.upkeep import retention

    return asdict(retention.run(Context.load(), dry_run=dry_run))


def compaction() -> Result:
    """Compact every table and remove its old versions."""
    from pipeline.upkeep import compaction

    return compaction.run(Context.load())


def sizes() -> Result:
    """Return the number of rows, files and bytes of every table."""
    from pipeline.lake import table_sizes

    return table_sizes.sizes(Context.load().lake)
