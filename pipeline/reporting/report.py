"""Writes the report of a run: one self-contained HTML page, reports/<run_id>/report.html.

Every figure comes from the tables or from the run's metrics.json. Figures from metrics.json carry
their path in that file (`data-path`), so that a test can compare the page with the file. All
strings are escaped, and the page's Content-Security-Policy forbids scripts and network access.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from pipeline.context import Context
from pipeline.errors import ProvenanceError
from pipeline.lake.tables import Lake
from pipeline.releases.current import read_current
from pipeline.reporting import plots
from pipeline.reporting.drift import feature_drift, genre_drift
from pipeline.reporting.facts import (
    days_until,
    extraction_speed,
    genres_picked,
    load_student,
    rejects_by_reason,
    sample_recommendations,
    training_history,
)
from pipeline.reporting.html import PAGE, fill
from pipeline.settings.load import Settings
from pipeline.storage.presence import missing_lake_errors
from pipeline.storage.store import Store
from pipeline.training.dataset import load_dataset
from pipeline.training.evaluate import load_metrics
from pipeline.training.gate import read_decision

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReportSummary:
    """What was written.

    Attributes:
        run_id: the run.
        folder: folder of the report in the store.
        bytes: size of the page.
    """

    run_id: str
    folder: str
    bytes: int


def run(context: Context, run_id: str) -> ReportSummary:
    """Write the report of a run; an older report of the run is replaced.

    Raises:
        ProvenanceError: the run was not evaluated, or the gate has not decided on it.
        LakeUnavailableError: the lake disappeared.
    """
    settings, lake, store = context.settings, context.lake, context.store
    with missing_lake_errors(store.root):
        page = render(gather(settings, lake, store, run_id))
        name = f"reports/{run_id}"
        store.remove(name)
        with store.writing(name) as folder:
            (folder / PAGE).write_text(page, encoding="utf-8")
    summary = ReportSummary(run_id, name, len(page.encode()))
    log.info("%s", summary)
    return summary


def gather(settings: Settings, lake: Lake, store: Store, run_id: str) -> dict[str, Any]:
    """Collect the values of the template report.html, by name.

    Raises:
        ProvenanceError: the run was not evaluated, or the gate has not decided on it.
    """
    metrics = load_metrics(store, run_id)
    decision = read_decision(lake, run_id)
    if decision is None:
        raise ProvenanceError("the gate has not decided on the run yet", where=run_id)
    dataset = load_dataset(store, run_id)
    current = read_current(store)
    days = days_until(lake, dataset.as_of)
    speed = extraction_speed(lake)
    drift = [
        *genre_drift(settings, lake, dataset.as_of),
        *feature_drift(settings, lake, dataset.as_of),
    ]
    history, student = training_history(store, run_id), load_student(store, run_id)
    picked = genres_picked(dataset)
    k = metrics["evaluation_set"]["k"]
    return {
        "run_id": run_id,
        "as_of": dataset.as_of.isoformat(),
        "release": current.release_id if current and current.run_id == run_id else None,
        "current": current.release_id if current else None,
        "decision": decision,
        "metrics": metrics,
        "k": k,
        "days": days,
        "days_plot": plots.intake(days),
        "rejects": rejects_by_reason(lake, dataset.as_of),
        "speed": speed,
        "speed_plot": plots.speed(speed),
        "drift": drift,
        "drift_plot": plots.drift(drift),
        "history": history,
        "history_plot": plots.training(history),
        "share": student.student_share,
        "teaching": student.teacher_weight,
        "contenders_plot": plots.contenders(metrics["contenders"], k),
        "genres_plot": plots.genres(metrics["contenders"], picked),
        "picked": picked,
        "samples": sample_recommendations(settings, student, dataset),
    }


def render(values: dict[str, Any]) -> str:
    """Return the HTML page from what `gather` returned."""
    return fill(PAGE, values)
