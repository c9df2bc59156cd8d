"""Computes the metrics of a landing day and of a run, which Airflow sends to a metrics system.

The values are gauges. Airflow sends them as `<prefix>.<name>` to StatsD or OpenTelemetry, whichever
it is configured for. docs/metrics.md is generated from `METRICS`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from pipeline.lake.tables import Lake

METRICS = {
    "debcm.rows": "rows in the manifests of the landing day",
    "debcm.accepted": "rows of the day in the catalogue",
    "debcm.rejects": "rows of the day in quarantine, after ingest and extraction",
    "debcm.rejects.<reason>": "rows of the day in quarantine for this reason",
    "debcm.clips": "clips of the day that have features",
    "debcm.extracted": "clips decoded in this DAG run",
    "debcm.clips_per_second": "clips decoded per second of the shards' wall time; not sent if no "
    "clip was decoded",
    "debcm.extract_cpu_seconds": "CPU seconds spent on decoding",
    "debcm.lag_hours": "hours from the newest upload in the catalogue to the end of the check",
    "debcm.missed_days": "complete landing days that were never ingested and are older than "
    "`[landing] lookback_days`",
    "debcm.gate.published": "1 if the gate passed the run or it was forced, 0 if it was refused",
    "debcm.gate.broken_rules": "number of gate rules that the run broke",
    "debcm.test_rows": "held-out picks that the run was evaluated on",
    "debcm.recall.<contender>": "recall@K of the challenger, champion or baseline on these picks",
    "debcm.ndcg.<contender>": "NDCG@10 on these picks",
    "debcm.genre_kl.<contender>": "genre calibration error on these picks, KL divergence in nats",
    "debcm.coverage.<contender>": "share of the catalogue that is recommended for these picks",
}


def of_day(
    lake: Lake,
    ingested: Mapping[str, Any],
    checked: Mapping[str, Any],
    shards: Sequence[Mapping[str, Any]],
    missed: int,
) -> dict[str, float]:
    """Return the metrics of one DAG run of `media_features`, by name.

    Args:
        lake: the lake, read for the time of the newest upload.
        ingested: the result of `steps.ingest`.
        checked: the result of `steps.check`.
        shards: the result of `steps.extract` for each shard.
        missed: number of days that `steps.missed_days` returns.
    """
    rejects: dict[str, float] = {}
    for found in (ingested["rejected"], checked["rejected"]):
        for reason, count in found.items():
            rejects[reason] = rejects.get(reason, 0) + count
    extracted = sum(shard["extracted"] for shard in shards)
    seconds = sum(shard["wall_seconds"] for shard in shards)
    values = {
        "debcm.rows": ingested["rows"],
        "debcm.accepted": ingested["accepted"],
        "debcm.rejects": sum(rejects.values()),
        "debcm.clips": checked["clips"],
        "debcm.extracted": extracted,
        "debcm.missed_days": missed,
        "debcm.extract_cpu_seconds": sum(shard["cpu_seconds"] for shard in shards),
    }
    if extracted and seconds:
        values["debcm.clips_per_second"] = extracted / seconds
    if (newest := newest_upload(lake)) is not None:
        lag = dt.datetime.now(dt.UTC) - newest
        values["debcm.lag_hours"] = lag.total_seconds() / 3600
    values |= {f"debcm.rejects.{reason}": count for reason, count in rejects.items()}
    return {name: float(value) for name, value in values.items()}


def of_run(document: Mapping[str, Any], decision: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of one DAG run of `debcm_retrain`, by name.

    Args:
        document: the run's metrics.json.
        decision: the result of `steps.gate`.
    """
    k = document["evaluation_set"]["k"]
    values = {
        "debcm.gate.published": float(decision["decision"] != "refuse"),
        "debcm.gate.broken_rules": float(sum(not v["passed"] for v in decision["verdicts"])),
        "debcm.test_rows": float(document["evaluation_set"]["rows"]),
    }
    for name, figures in document["contenders"].items():
        values |= {
            f"debcm.recall.{name}": figures[f"recall@{k}"],
            f"debcm.ndcg.{name}": figures["ndcg@10"],
            f"debcm.genre_kl.{name}": figures["genre_kl"],
            f"debcm.coverage.{name}": figures["coverage"],
        }
    return values


def newest_upload(lake: Lake) -> dt.datetime | None:
    """Return the time of the newest upload in the catalogue, or None if it is empty."""
    newest = lake.collect(lake.scan("videos").select(pl.col("uploaded_at").max()), "videos").item()
    return newest if isinstance(newest, dt.datetime) else None
