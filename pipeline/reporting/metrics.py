"""What the pipeline tells a metrics system: names, meanings and values; Airflow sends them.

The values are gauges, sent as `<prefix>.<name>` by whatever Airflow is configured for (StatsD or
OpenTelemetry). `METRICS` is what docs/metrics.md lists.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from pipeline.lake.tables import Lake

METRICS = {
    "debcm.rows": "rows of the day's manifests",
    "debcm.accepted": "of these, rows in the catalogue",
    "debcm.rejects": "of these, rows in quarantine after ingest and extraction",
    "debcm.rejects.<reason>": "the same by reason",
    "debcm.clips": "clips of the day that have features",
    "debcm.extracted": "clips that were decoded for it in this run",
    "debcm.clips_per_second": "these per second of the shards' wall time; absent without any",
    "debcm.extract_cpu_seconds": "processor time of the decoding",
    "debcm.lag_hours": "hours from the newest upload in the catalogue to the end of the check",
    "debcm.gate.published": "1: the gate let the run pass, 0: it refused",
    "debcm.gate.broken_rules": "rules that the run broke",
    "debcm.test_rows": "held-out picks that the run was judged by",
    "debcm.recall.<contender>": "recall@K of challenger, champion and baselines on them",
    "debcm.ndcg.<contender>": "NDCG@10, likewise",
    "debcm.genre_kl.<contender>": "genre calibration in nats, likewise",
    "debcm.coverage.<contender>": "share of the catalogue that is recommended, likewise",
}


def of_day(
    lake: Lake,
    ingested: Mapping[str, Any],
    checked: Mapping[str, Any],
    shards: Sequence[Mapping[str, Any]],
) -> dict[str, float]:
    """Metrics of one run of `media_features`.

    Args:
        lake: for the newest upload.
        ingested: what `steps.ingest` returned.
        checked: what `steps.check` returned.
        shards: what each `steps.extract` returned.
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
    """Metrics of one run of `debcm_retrain`.

    Args:
        document: the run's metrics.json.
        decision: what `steps.gate` returned.
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
    """Time of the newest upload in the catalogue, or None where it is empty."""
    newest = lake.collect(lake.scan("videos").select(pl.col("uploaded_at").max()), "videos").item()
    return newest if isinstance(newest, dt.datetime) else None
