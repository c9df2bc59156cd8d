"""Days that were refused: the delivery is at fault, so that only another one is worth a run.

Without this memory a refused day would fail, and wake somebody, every night of the lookback.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import polars as pl

from pipeline.errors import PipelineError
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake


@dataclass(frozen=True)
class RefusedDay:
    """A day that was refused and not accepted since.

    Attributes:
        day: the landing day.
        fingerprint: of the delivery that was refused.
        step: "ingest" or "check".
        reason: class of the error.
        detail: its message, without the remedy.
        at: when.
    """

    day: dt.date
    fingerprint: str
    step: str
    reason: str
    detail: str
    at: dt.datetime


def record_refused_day(
    lake: Lake, day: dt.date, fingerprint: str, step: str, error: PipelineError
) -> None:
    """Remember that a step has refused a delivery of a day."""
    row = {
        "dt": day,
        "fingerprint": fingerprint,
        "step": step,
        "reason": type(error).__name__,
        "detail": f"{error.where}: {error.what}",
        "finished_at": dt.datetime.now(dt.UTC),
    }
    lake.replace("refused_days", TABLES["refused_days"].frame([row]), {"dt": day})


def clear_refused_day(lake: Lake, day: dt.date) -> None:
    """Forget that a day was refused."""
    if not lake.read("refused_days", pl.col("dt") == day).is_empty():
        lake.replace("refused_days", TABLES["refused_days"].empty, {"dt": day})


def read_refused_days(lake: Lake) -> list[RefusedDay]:
    """Every day that is refused, in order."""
    columns = ("dt", "fingerprint", "step", "reason", "detail", "finished_at")
    return [
        RefusedDay(*row) for row in lake.read("refused_days").sort("dt").select(columns).iter_rows()
    ]
