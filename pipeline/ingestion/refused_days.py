"""Records refused days, so that a day is tried again only when that can help.

That is so if its files have changed, or if the machine may be the cause that a file was rejected.
Without this record, a refused day would fail and send an alert every night of the lookback.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from pipeline.errors import PipelineError
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake


@dataclass(frozen=True)
class RefusedDay:
    """A day that was refused and has not been accepted since.

    Attributes:
        day: the landing day.
        fingerprint: fingerprint of the refused delivery.
        step: the step that refused it, "ingest" or "check".
        reason: class name of the error.
        detail: summary of the error.
        at: time of the refusal.
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
    """Record that a step refused a day.

    Args:
        lake: with the table `refused_days`.
        day: the landing day.
        fingerprint: fingerprint of the refused delivery.
        step: "ingest" or "check".
        error: why the day was refused.
    """
    row = {
        "dt": day,
        "fingerprint": fingerprint,
        "step": step,
        "reason": type(error).__name__,
        "detail": error.summary,
        "finished_at": dt.datetime.now(dt.UTC),
    }
    lake.replace("refused_days", TABLES["refused_days"].frame([row]), {"dt": day})


def clear_refused_day(lake: Lake, day: dt.date, fingerprints: Collection[str] = ()) -> None:
    """Delete the record that a day was refused, if there is one.

    Args:
        lake: with the table `refused_days`.
        day: the landing day.
        fingerprints: the deliveries that were accepted; empty: any delivery.
    """
    refusal = lake.read("refused_days", pl.col("dt") == day)
    if refusal.is_empty():
        return
    if not fingerprints or refusal["fingerprint"][0] in fingerprints:
        lake.replace("refused_days", TABLES["refused_days"].empty, {"dt": day})


def read_refused_days(lake: Lake) -> list[RefusedDay]:
    """Return all refused days, in order."""
    columns = ("dt", "fingerprint", "step", "reason", "detail", "finished_at")
    return [
        RefusedDay(*row) for row in lake.read("refused_days").sort("dt").select(columns).iter_rows()
    ]
