"""Writes a run's report as text for a terminal: decision, figures, examples, rejected rows."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl

from pipeline.context import Context
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.releases.current import read_current
from pipeline.releases.serving import Release
from pipeline.reporting.text import printable, table
from pipeline.settings.load import Settings
from pipeline.storage.store import Store
from pipeline.training.evaluate import load_metrics
from pipeline.training.gate import read_decision

SAMPLE_VIDEOS = 3
BEST_TRACKS = 5


def text(context: Context, run_id: str) -> str:
    """Return the report of a run as text.

    Every number comes from the tables or from the run's metrics.json.

    Raises:
        ProvenanceError: the run was not evaluated.
    """
    settings, lake, store = context.settings, context.lake, context.store
    metrics = load_metrics(store, run_id)
    parts = [
        _section(f"Gate decision on run {run_id}", _gate(lake, run_id)),
        _section("Current release", _release(settings, store)),
        _section(
            f"Evaluation on {metrics['evaluation_set']['rows']} held-out picks",
            _contenders(metrics),
        ),
        _section("Sample recommendations of the current release", _recommended(lake, store)),
        _section("Rejected rows", _rejects(lake)),
        _section("Rows per table", _rows_per_table(lake)),
    ]
    return "\n".join(parts)


def _section(title: str, lines: list[str]) -> str:
    return "\n".join([title, *(f"  {printable(line)}" for line in lines), ""])


def _rows_per_table(lake: Lake) -> list[str]:
    counts = {name: lake.collect(lake.scan(name).select(pl.len()), name).item() for name in TABLES}
    return [f"{name:<18}{count:>8}" for name, count in counts.items()]


def _rejects(lake: Lake) -> list[str]:
    rows = lake.read("quarantine").sort("dt", "kind", "id")
    if rows.is_empty():
        return ["none"]
    return table(
        [
            (str(row["dt"]), row["reason"], row["kind"], row["id"][:24], row["detail"][:90])
            for row in rows.iter_rows(named=True)
        ]
    )


def _contenders(metrics: dict[str, Any]) -> list[str]:
    k = metrics["evaluation_set"]["k"]
    header = ("", f"recall@{k}", f"{'95 % interval':>16}", "ndcg@10", "genre KL", "coverage")
    rows = []
    for name, figures in metrics["contenders"].items():
        low, high = figures["intervals"][f"recall@{k}"]
        rows.append(
            (
                name,
                f"{figures[f'recall@{k}']:.3f}",
                f"{low:.3f} to {high:.3f}",
                f"{figures['ndcg@10']:.3f}",
                f"{figures['genre_kl']:.3f}",
                f"{figures['coverage']:.2f}",
            )
        )
    notes = [
        "Recall and NDCG weight each pick by the inverse popularity of its track. Genre KL (nats)",
        "measures how far the recommended genres are from the picked ones; 0 is best.",
    ]
    return [*table([header, *rows], figures=True), *notes]


def _gate(lake: Lake, run_id: str) -> list[str]:
    decision = read_decision(lake, run_id)
    if decision is None:
        return ["no decision yet"]
    failed_first = sorted(decision.verdicts, key=lambda verdict: verdict.passed)
    verdicts = [f"{'pass' if v.passed else 'FAIL'}  {v.rule}: {v.text}" for v in failed_first]
    return [decision.decision, *verdicts]


def _release(settings: Settings, store: Store) -> list[str]:
    current = read_current(store)
    if current is None:
        return ["none: no release has been published yet"]
    return [
        current.release_id,
        f"files: {settings.lake.root}/releases/{current.release_id}",
    ]


def _recommended(lake: Lake, store: Store) -> list[str]:
    current = read_current(store)
    if current is None:
        return ["none: no release has been published yet"]
    release = Release.open(store.fetch(f"releases/{current.release_id}"))
    lines = []
    for video_id, day, path in _last_videos(lake, release):
        lines.append(f"video {video_id} ({day}, {path})")
        lines += [
            f"  {hit.rank}. {hit.title} - {hit.artist}  [{hit.genre}]  {hit.score:.3f}"
            for hit in release.recommend_known(video_id, top=BEST_TRACKS)
        ]
    return lines


def _last_videos(lake: Lake, release: Release) -> list[tuple[str, dt.date, str]]:
    """Return the first videos, by id, of the release's newest landing day."""
    known = pl.Series(release.video_ids, dtype=pl.String)
    videos = lake.read("videos", pl.col("video_id").is_in(known.implode()))
    last = videos.filter(pl.col("dt") == pl.col("dt").max()).sort("video_id").head(SAMPLE_VIDEOS)
    return list(last.select("video_id", "dt", "media_path").iter_rows())
