"""Extracts the features of one shard of a plan, and commits them to the tables in batches.

The key of features is (content_hash, segment, extractor): a file with features by an extractor is
never decoded again. A killed shard loses at most one batch of [extract] commit_clips clips; when
it is re-run it skips the committed clips.
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
from features.workers.progress import report_progress
from pipeline.context import Context
from pipeline.extraction.clips import (
    MODALITIES,
    MODALITIES_OF_JOB,
    Modality,
    extractors,
    first_delivery_days,
    without_features,
)
from pipeline.extraction.failures import drop_final_failures, record_outcomes
from pipeline.ingestion.landing_day import LandingDay
from pipeline.ingestion.manifest import Row
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake

log = logging.getLogger(__name__)

Part = TypeVar("Part")


@dataclass(frozen=True)
class ShardSummary:
    """Result of one shard.

    Attributes:
        shard: number of the shard in its plan.
        extracted: clips whose features were written.
        skipped: clips that already had features, whose earlier failure is final, or whose content
            an erasure or a new delivery removed from the catalogue.
        rejected: clips that failed now.
        cpu_seconds: CPU time of the decoding processes for the extracted clips.
        wall_seconds: duration of the step.
    """

    shard: int
    extracted: int
    skipped: int
    rejected: int
    cpu_seconds: float
    wall_seconds: float


def run(
    context: Context, plan_name: str, shard: int, modalities: Sequence[Modality] = MODALITIES
) -> ShardSummary:
    """Extract the clips of one shard that lack features.

    A file that fails is recorded in table `failures`; the other files are extracted. Clips whose
    content is in the catalogue no more are dropped. A shard that is not in table `shards` is done:
    an erasure has removed its last clip.

    Args:
        context: settings and lake.
        plan_name: name of the plan in table `shards`.
        shard: number of the shard in the plan.
        modalities: the features to extract.
    """
    settings = context.settings
    started = time.monotonic()
    clips = context.lake.read("shards", pl.col("plan") == plan_name, pl.col("shard") == shard)
    if clips.is_empty():
        log.warning("nothing to extract: table shards has no plan %s, shard %d", plan_name, shard)
        return ShardSummary(shard, 0, 0, 0, 0.0, 0.0)
    delivered = first_delivery_days(context.lake, clips["content_hash"])
    pending = clips.filter(pl.col("content_hash").is_in(list(delivered)))
    pending = without_features(context, pending, modalities)
    # If the task is retried, its first attempt may have recorded failures.
    pending = drop_final_failures(context, pending, modalities)
    batch = _Batch(context, modalities)

    def needed(modality: Modality) -> bool:
        # A job of segments always makes both: one pass over the file decodes picture and sound.
        return modality in modalities or JobKind.SEGMENTS in pending["job"]

    with MediaPool(
        settings.extract.workers,
        settings.limits,
        settings.visual if needed(Modality.VISUAL) else None,
        settings.audio if needed(Modality.AUDIO) else None,
    ) as pool:
        outcomes = pool.run(_jobs(context, pending, batch))
        for job, outcome in report_progress(outcomes, len(pending), f"shard {shard}"):
            assert isinstance(outcome, ClipFeatures | MediaError)
            batch.add(job, outcome)
            if batch.size >= settings.extract.commit_clips:
                batch.commit()
        batch.commit()
    summary = ShardSummary(
        shard,
        extracted=batch.extracted,
        skipped=len(clips) - batch.extracted - batch.rejected,
        rejected=batch.rejected,
        cpu_seconds=round(batch.cpu_seconds, 2),
        wall_seconds=round(time.monotonic() - started, 2),
    )
    _record_speed(context.lake, plan_name, summary)
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


def _jobs(context: Context, clips: pl.DataFrame, batch: _Batch) -> Iterator[Job]:
    """Yield one job per clip; a shard may have thousands, so they are made on demand.

    A clip that cannot be decoded at all is added to the batch as a failure instead.
    """
    segments: dict[str, list[tuple[float, float]]] = {}
    of_clips = pl.col("content_hash").is_in(clips["content_hash"].unique().implode())
    rows = context.lake.read("segments", of_clips).unique(["content_hash", "segment"])
    for content_hash, start, end in (
        rows.sort("content_hash", "segment").select("content_hash", "start", "end").iter_rows()
    ):
        segments.setdefault(content_hash, []).append((start, end))
    for row in clips.iter_rows(named=True):
        landing = LandingDay(context.settings.landing.root, row["dt"])
        path = landing.resolve(row["media_path"])
        kind = JobKind(row["job"])
        job = Job(
            key=f"{kind}:{row['content_hash']}",
            path=path or landing.folder / row["media_path"],
            kind=kind,
            content_hash=row["content_hash"],
            segments=tuple(segments.get(row["content_hash"], ()))
            if kind is JobKind.SEGMENTS
            else (),
        )
        if path is None:
            link = "the path contains a symbolic link that was not there at ingestion"
            batch.add(job, MediaError(Reason.UNREADABLE, link))
        elif job.kind is JobKind.SEGMENTS and not job.segments:
            none = "the file has no rows in table segments"
            batch.add(job, MediaError(Reason.BAD_SEGMENT, none))
        else:
            yield job


@dataclass
class _Batch:
    """Features and failures to be written by the next commit, and totals of all commits."""

    context: Context
    modalities: Sequence[Modality]
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
        makes_audio = Modality.AUDIO in MODALITIES_OF_JOB[job.kind]
        if makes_audio and Modality.AUDIO in self.modalities and not outcome.audio:
            silent = "the music video has no sound; the teacher needs picture and sound"
            self._failed.append((job, MediaError(Reason.NO_AUDIO, silent)))
            return
        self._done.append((job, outcome))

    def commit(self) -> None:
        """Write the batch to the tables.

        Clips whose content left the catalogue since they were planned are dropped. Of each
        modality the features are written after the frames: a row of features marks the clip as
        done.
        """
        names = extractors(self.context.settings)
        jobs = [job for job, _ in self._done] + [job for job, _ in self._failed]
        hashes = pl.Series([job.content_hash for job in jobs], dtype=pl.String)
        day_of = first_delivery_days(self.context.lake, hashes)
        self._done = [outcome for outcome in self._done if outcome[0].content_hash in day_of]
        self._failed = [outcome for outcome in self._failed if outcome[0].content_hash in day_of]
        dropped = len(jobs) - self.size
        if dropped:
            log.info("%d clips dropped: their content left the catalogue meanwhile", dropped)
        extract = self.context.settings.extract
        written = {"visual_frames": extract.visual_frames, "mel_frames": extract.mel_frames}
        left_out = {table for table, is_written in written.items() if not is_written}
        # In the order in which they are written.
        rows: dict[str, list[Row]] = {
            "visual_frames": [],
            "visual_features": [],
            "mel_frames": [],
            "audio_features": [],
        }
        for job, clip in self._done:
            assert job.content_hash is not None
            base: Row = {"content_hash": job.content_hash, "dt": day_of[job.content_hash]}
            if Modality.VISUAL in self.modalities:
                for segment, visual in _numbered(job, clip.visual):
                    key = {"segment": segment, "extractor": names[Modality.VISUAL]}
                    _add_visual(rows, base | key, visual)
            if Modality.AUDIO in self.modalities:
                for segment, audio in _numbered(job, clip.audio):
                    key = {"segment": segment, "extractor": names[Modality.AUDIO]}
                    _add_audio(rows, base | key, audio)
        for table, new in rows.items():
            if table not in left_out:
                self.context.lake.add(table, TABLES[table].frame(new))
        done = [job for job, _ in self._done]
        record_outcomes(self.context, self._failed, done, self.modalities)
        self.extracted += len(self._done)
        self.rejected += len(self._failed)
        self.cpu_seconds += sum(clip.cpu_seconds for _, clip in self._done)
        self._done.clear()
        self._failed.clear()


def _numbered(job: Job, parts: tuple[Part, ...]) -> Iterator[tuple[int, Part]]:
    """Yield the parts of a clip with their segment number; -1 is the whole clip."""
    return enumerate(parts, start=0 if job.kind is JobKind.SEGMENTS else -1)


def _add_visual(rows: dict[str, list[Row]], key: Row, visual: VisualFeatures) -> None:
    frames = visual.frame_embeddings.astype("<f2")
    rows["visual_frames"] += [
        key | {"frame": frame, "time": float(time), "values": frames[frame].tobytes()}
        for frame, time in enumerate(visual.frame_times)
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
