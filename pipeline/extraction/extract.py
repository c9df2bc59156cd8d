"""Clips -> features, one shard at a time.

(content_hash, segment, extractor) is the key: what has features is never decoded again. A
shard commits every few hundred clips, so a killed one loses little and never repeats.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import polars as pl

from features import ClipFeatures, Job, JobKind, MediaError, MediaPool
from features.errors import Reason
from features.results import AudioFeatures, VisualFeatures
from pipeline.context import Context
from pipeline.errors import ProvenanceError
from pipeline.extraction.clips import (
    KINDS,
    MAKES,
    Kind,
    extractors,
    first_days,
    lacking_features,
)
from pipeline.extraction.failures import record, worth_trying
from pipeline.ingestion.landing_day import LandingDay
from pipeline.ingestion.manifest import Row
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.progress import progress
from pipeline.settings.load import Settings

log = logging.getLogger(__name__)

Part = TypeVar("Part")


@dataclass(frozen=True)
class ShardSummary:
    """What one run of a shard did; `skipped` clips had features already, or failed before."""

    shard: int
    extracted: int
    skipped: int
    rejected: int
    cpu_seconds: float
    wall_seconds: float


def run(
    context: Context, plan_name: str, shard: int, kinds: Sequence[Kind] = KINDS
) -> ShardSummary:
    """Extract the clips of one shard that lack features.

    A file that fails costs only itself: it goes to table `failures`, the others go on.

    Raises:
        ProvenanceError: there is no such plan.
    """
    settings, lake = context.settings, context.lake
    started = time.monotonic()
    clips = lake.read("shards", pl.col("plan") == plan_name, pl.col("shard") == shard)
    if clips.is_empty():
        raise ProvenanceError("no such shard", where=f"plan {plan_name}, shard {shard}")
    lacking = lacking_features(settings, lake, clips, kinds)
    # A first attempt of this task may have met failures already.
    lacking = worth_trying(settings, lake, lacking, kinds)
    batch = _Batch(settings, lake, kinds)

    def wanted(kind: Kind) -> bool:
        # A segment is always both: its picture and its sound come from one pass over the file.
        return kind in kinds or JobKind.SEGMENTS in lacking["job"]

    with MediaPool(
        settings.extract.workers,
        settings.limits,
        settings.visual if wanted("visual") else None,
        settings.audio if wanted("audio") else None,
    ) as pool:
        outcomes = pool.run(_jobs(settings, lake, lacking, batch))
        for job, outcome in progress(outcomes, len(lacking), f"shard {shard}"):
            assert isinstance(outcome, ClipFeatures | MediaError)
            batch.add(job, outcome)
            if batch.size >= settings.extract.commit_clips:
                batch.commit()
        batch.commit()
    summary = ShardSummary(
        shard,
        extracted=batch.extracted,
        skipped=len(clips) - len(lacking),
        rejected=batch.rejected,
        cpu_seconds=round(batch.cpu_seconds, 2),
        wall_seconds=round(time.monotonic() - started, 2),
    )
    _record_speed(lake, plan_name, summary)
    log.info("%s", summary)
    return summary


def _record_speed(lake: Lake, plan_name: str, summary: ShardSummary) -> None:
    if not summary.extracted + summary.rejected:
        return
    row = {
        "plan": plan_name,
        "shard": summary.shard,
        "clips": summary.extracted,
        "rejected": summary.rejected,
        "cpu_seconds": summary.cpu_seconds,
        "wall_seconds": summary.wall_seconds,
        "finished_at": dt.datetime.now(dt.UTC),
    }
    lake.add("extractions", TABLES["extractions"].frame([row]))


def _jobs(settings: Settings, lake: Lake, clips: pl.DataFrame, batch: _Batch) -> Iterator[Job]:
    """One job a clip, made as it is asked for: a shard may hold thousands.

    A clip that cannot even be tried goes to the batch at once.
    """
    windows: dict[str, list[tuple[float, float]]] = {}
    of_clips = pl.col("content_hash").is_in(clips["content_hash"].unique().implode())
    spans = lake.read("segments", of_clips).unique(["content_hash", "segment"])
    for content_hash, start, end in (
        spans.sort("content_hash", "segment").select("content_hash", "start", "end").iter_rows()
    ):
        windows.setdefault(content_hash, []).append((start, end))
    for row in clips.iter_rows(named=True):
        landing = LandingDay(settings.landing.root, row["dt"])
        path = landing.resolve(row["media_path"])
        segments = (
            tuple(windows.get(row["content_hash"], ())) if row["job"] == JobKind.SEGMENTS else ()
        )
        job = Job(
            key=f"{row['job']}:{row['content_hash']}",
            path=path or landing.folder / row["media_path"],
            kind=JobKind(row["job"]),
            content_hash=row["content_hash"],
            segments=segments,
        )
        if path is None:
            link = "the path passes a symbolic link that was not there when it was ingested"
            batch.add(job, MediaError(Reason.UNREADABLE, link))
        elif job.kind is JobKind.SEGMENTS and not job.segments:
            batch.add(job, MediaError(Reason.BAD_SEGMENT, "table segments holds none of the file"))
        else:
            yield job


@dataclass
class _Batch:
    """Features and failures that wait for the next commit."""

    settings: Settings
    lake: Lake
    kinds: Sequence[Kind]
    extracted: int = 0
    rejected: int = 0
    cpu_seconds: float = 0.0
    _done: list[tuple[Job, ClipFeatures]] = field(default_factory=list)
    _failed: list[tuple[Job, MediaError]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self._done) + len(self._failed)

    def add(self, job: Job, outcome: ClipFeatures | MediaError) -> None:
        if isinstance(outcome, MediaError):
            self._failed.append((job, outcome))
            return
        wants_sound = "audio" in self.kinds and "audio" in MAKES[job.kind]
        if wants_sound and not outcome.audio:
            silent = MediaError(Reason.NO_AUDIO, "a music video without sound teaches nothing")
            self._failed.append((job, silent))
            return
        self._done.append((job, outcome))

    def commit(self) -> None:
        """Write what was gathered; the feature row comes last, it says that the clip is done."""
        names = extractors(self.settings)
        hashes = pl.Series([job.content_hash for job, _ in self._done], dtype=pl.String)
        day_of = first_days(self.lake, hashes)
        rows: dict[str, list[Row]] = {
            "visual_frames": [],
            "visual_features": [],
            "mel_frames": [],
            "audio_features": [],
        }
        for job, clip in self._done:
            assert job.content_hash is not None
            base: Row = {"content_hash": job.content_hash, "dt": day_of[job.content_hash]}
            if "visual" in self.kinds:
                for key, visual in _numbered(job, clip.visual):
                    _add_visual(rows, base | key | {"extractor": names["visual"]}, visual)
            if "audio" in self.kinds:
                for key, audio in _numbered(job, clip.audio):
                    _add_audio(rows, base | key | {"extractor": names["audio"]}, audio)
        for table, new in rows.items():
            self.lake.add(table, TABLES[table].frame(new))
        done = [job for job, _ in self._done]
        record(self.settings, self.lake, self._failed, done, self.kinds)
        self.extracted += len(self._done)
        self.rejected += len(self._failed)
        self.cpu_seconds += sum(clip.cpu_seconds for _, clip in self._done)
        self._done.clear()
        self._failed.clear()


def _numbered(job: Job, parts: tuple[Part, ...]) -> Iterator[tuple[Row, Part]]:
    first = 0 if job.kind is JobKind.SEGMENTS else -1
    for number, part in enumerate(parts, start=first):
        yield {"segment": number}, part


def _add_visual(rows: dict[str, list[Row]], key: Row, visual: VisualFeatures) -> None:
    frames = visual.frame_embeddings.astype("<f2")
    rows["visual_frames"] += [
        key | {"frame": frame, "time": float(when), "values": frames[frame].tobytes()}
        for frame, when in enumerate(visual.frame_times)
    ]
    rows["visual_features"].append(
        key
        | {
            "embedding": visual.embedding.tolist(),
            "frames": len(visual.frame_times),
            "decoder": visual.decoder,
        }
    )


def _add_audio(rows: dict[str, list[Row]], key: Row, audio: AudioFeatures) -> None:
    bands, frames = audio.mel.shape
    rows["mel_frames"].append(
        key | {"bands": bands, "frames": frames, "values": audio.mel.astype("<f2").tobytes()}
    )
    rows["audio_features"].append(
        key | {"embedding": audio.embedding.tolist(), "decoder": audio.decoder}
    )
