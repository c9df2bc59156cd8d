"""Ingests a landing day: every row ends in the catalogue or in quarantine."""

from __future__ import annotations

import datetime as dt
import logging
from collections import Counter
from dataclasses import dataclass

import polars as pl

from pipeline.context import Context
from pipeline.errors import (
    LandingAccessError,
    ManifestError,
    Permanent,
    TooManyRejectsError,
)
from pipeline.ingestion.deletion_requests import (
    record_deletions,
    report_unmatched,
    without_id,
)
from pipeline.ingestion.delivery import Delivery, complete_days, read_delivery, retryable_rejects
from pipeline.ingestion.landing_day import LandingDay
from pipeline.ingestion.manifest import Row
from pipeline.ingestion.refused_days import clear_refused_day, read_refused_days, record_refused_day
from pipeline.ingestion.row_rules import (
    PendingRow,
    RejectedRows,
    probe_media,
    refuse_too_many_rejects,
    reject_deleted,
    reject_duplicate_ids,
    reject_implausible_times,
    reject_owned_ids,
    reject_unknown_music,
)
from pipeline.lake.codes import IdKind, Source
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings
from pipeline.settings.sections import ExtractSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IngestSummary:
    """Result of one ingest.

    Attributes:
        day: the landing day, ISO.
        unchanged: whether the day was skipped, because it is unchanged since its ingest.
        rows: number of rows of the manifests, including deletion requests that are unreadable or
            match nothing.
        accepted: number of rows accepted into the catalogue.
        rejected: number of quarantined rows, by reason.
    """

    day: str
    unchanged: bool
    rows: int
    accepted: int
    rejected: dict[str, int]


def run(context: Context, day: dt.date) -> IngestSummary:
    """Ingest a landing day: accept its valid rows into the catalogue and quarantine the others.

    An unchanged day is skipped, unless a file can be tried again or another delivery of the day was
    refused since. The rows of a changed day are
    replaced. Earlier complete days that were not ingested yet are ingested first: this day may name
    their tracks, and concurrent runs of a backfill must result in the same rows as nightly runs.

    Args:
        context: settings and lake.
        day: the landing day.

    Raises:
        DayNotReadyError: `_SUCCESS` is missing.
        LandingAccessError: the operating system does not permit reading the folder or a manifest.
        LandingUnavailableError: the storage of the landing area does not answer.
        ManifestError: a manifest cannot be read.
        TooManyRejectsError: more rows than `[landing] reject_share` were rejected. The quarantine
            is written; the catalogue is unchanged.
    """
    settings, lake = context.settings, context.lake
    LandingDay(settings.landing.root, day).require_success()
    _ingest_earlier_days(settings, lake, day)
    delivery = read_delivery(settings, lake, day)
    try:
        return _ingest_day(settings, lake, day, delivery)
    except (ManifestError, LandingAccessError, TooManyRejectsError) as error:
        record_refused_day(lake, day, delivery.fingerprint, "ingest", error)
        raise


def _ingest_earlier_days(settings: Settings, lake: Lake, day: dt.date) -> None:
    first = day - dt.timedelta(days=settings.landing.lookback_days)
    ingested = set(lake.read("landing_days")["dt"])
    refused = {refusal.day: refusal.fingerprint for refusal in read_refused_days(lake)}
    for earlier in complete_days(settings, first, day - dt.timedelta(days=1)):
        if earlier in ingested:
            continue
        delivery = read_delivery(settings, lake, earlier)
        if refused.get(earlier) == delivery.fingerprint:
            continue
        try:
            _ingest_day(settings, lake, earlier, delivery)
        except Permanent as error:
            # The earlier day's own run fails, records the refusal and sends the alert.
            log.warning("ingest of day %s before day %s failed: %s", earlier, day, error.summary)


def _ingest_day(settings: Settings, lake: Lake, day: dt.date, delivery: Delivery) -> IngestSummary:
    # A deletion must be obeyed even if the day's other manifests cannot be read.
    requests = delivery.landing.manifest("deletions")
    record_deletions(lake, day, requests)
    if delivery.error:
        raise delivery.error
    previous = lake.read("landing_days", pl.col("dt") == day)
    earlier_attempts: dict[tuple[str, str], int] = {}
    refusals = {refusal.day: refusal.fingerprint for refusal in read_refused_days(lake)}
    read_before = {*previous["fingerprint"], refusals.get(day)}
    rejected = lake.read("quarantine", pl.col("dt") == day, pl.col("step") == "ingest")
    if delivery.fingerprint in read_before:
        attempted = rejected.select("kind", "id", "attempts").iter_rows()
        earlier_attempts = {(kind, name): attempts for kind, name, attempts in attempted}
    # If another delivery was refused since, the quarantine can have that delivery's rows.
    is_current = refusals.get(day, delivery.fingerprint) == delivery.fingerprint
    is_current = is_current and previous["fingerprint"].to_list() == [delivery.fingerprint]
    if is_current and rejected.filter(retryable_rejects(settings)).is_empty():
        log.info("day %s is unchanged since its ingest", day)
        return _unchanged(day, previous, rejected)
    deleted = frozenset(lake.read("deletions")["id_hash"])
    rejects = RejectedRows(day, earlier_attempts, deleted)
    rejects.add_bad(IdKind.VIDEO, [without_id(bad) for bad in requests.bad])
    rows = sum(len(m.rows) + len(m.bad) for m in delivery.manifests.values()) + len(requests.bad)
    rows += report_unmatched(lake, day, requests, delivery.manifests, rejects)
    accepted = _apply_rules(settings, day, delivery, rejects)
    quarantine = TABLES["quarantine"].frame(rejects.rows)
    if not previous.is_empty():
        # Unmark the day first: if this process is killed, the day must be ingested again.
        lake.replace("landing_days", TABLES["landing_days"].empty, {"dt": day})
    lake.replace("quarantine", quarantine, {"dt": day, "step": "ingest"})
    try:
        refuse_too_many_rejects(
            quarantine, rows, settings.landing.reject_share, str(delivery.landing.folder)
        )
    except TooManyRejectsError as error:
        if not previous.is_empty() and previous["fingerprint"][0] != delivery.fingerprint:
            # The catalogue still has the previous delivery. Record the refusal first: the mark
            # alone would mean that the quarantine is of that delivery too.
            record_refused_day(lake, day, delivery.fingerprint, "ingest", error)
            lake.replace("landing_days", previous, {"dt": day})
        raise
    _write_catalogue(settings, lake, day, accepted)
    done = {
        "dt": day,
        "fingerprint": delivery.fingerprint,
        "rows": rows,
        "accepted": sum(map(len, accepted.values())),
        "rejected": len(quarantine),
        "finished_at": dt.datetime.now(dt.UTC),
    }
    # Write this row last: it marks the day as ingested.
    lake.replace("landing_days", TABLES["landing_days"].frame([done]), {"dt": day})
    clear_refused_day(lake, day)
    summary = IngestSummary(
        day.isoformat(),
        unchanged=False,
        rows=rows,
        accepted=sum(map(len, accepted.values())),
        rejected=dict(Counter(quarantine["reason"].to_list())),
    )
    log.info("day %s: %s", day, summary)
    return summary


def _apply_rules(
    settings: Settings, day: dt.date, delivery: Delivery, rejects: RejectedRows
) -> dict[IdKind, list[PendingRow]]:
    """Return the rows of each kind that every rule accepts."""
    accepted: dict[IdKind, list[PendingRow]] = {}
    owners = {IdKind.MUSIC: delivery.owners.music, IdKind.VIDEO: delivery.owners.videos}
    for kind in (IdKind.MUSIC, IdKind.VIDEO):
        rows = reject_duplicate_ids(kind, delivery.manifests[kind], rejects)
        rows = reject_deleted(rows, rejects)
        rows = reject_implausible_times(settings, day, rows, rejects)
        rows = probe_media(settings, delivery.landing, rows, rejects)
        accepted[kind] = reject_owned_ids(owners[kind], rows, rejects)
    known = delivery.owners.music.keys() | {track.id for track in accepted[IdKind.MUSIC]}
    accepted[IdKind.VIDEO] = reject_unknown_music(known, accepted[IdKind.VIDEO], rejects)
    return accepted


def _unchanged(day: dt.date, previous: pl.DataFrame, rejected: pl.DataFrame) -> IngestSummary:
    return IngestSummary(
        day.isoformat(),
        unchanged=True,
        rows=previous["rows"][0],
        accepted=previous["accepted"][0],
        rejected=dict(Counter(rejected["reason"].to_list())),
    )


def _write_catalogue(
    settings: Settings, lake: Lake, day: dt.date, accepted: dict[IdKind, list[PendingRow]]
) -> None:
    now = dt.datetime.now(dt.UTC)
    tables = {
        "music": [_music_row(settings, day, c, now) for c in accepted[IdKind.MUSIC]],
        "segments": [
            segment
            for c in accepted[IdKind.VIDEO]
            if c.row["source"] == Source.PGC
            for segment in segment_rows(settings.extract, day, c)
        ],
        "videos": [_video_row(day, c, now) for c in accepted[IdKind.VIDEO]],
    }
    for table, rows in tables.items():
        frame = TABLES[table].frame(rows)
        if "ingested_at" in frame.columns:
            frame = _keep_first_time(frame, lake.read(table, pl.col("dt") == day))
        lake.replace(table, frame, {"dt": day})


def _keep_first_time(new: pl.DataFrame, old: pl.DataFrame) -> pl.DataFrame:
    """Keep `ingested_at` of rows that the table already has, so that a re-run is idempotent."""
    same = [column for column in new.columns if column != "ingested_at"]
    return (
        new.join(old, on=same, how="left", suffix="_old", nulls_equal=True, maintain_order="left")
        .with_columns(pl.coalesce("ingested_at_old", "ingested_at").alias("ingested_at"))
        .drop("ingested_at_old")
    )


def _video_row(day: dt.date, video: PendingRow, now: dt.datetime) -> Row:
    info = video.info
    assert info is not None
    row = video.row
    return {
        "video_id": video.id,
        "uploader_id": row["uploader_id"],
        "music_id": row["music_id"],
        "source": row["source"],
        "uploaded_at": row["uploaded_at"],
        "dt": day,
        "content_hash": info.content_hash,
        "media_path": row["media_path"],
        "duration": info.duration,
        "width": info.width,
        "height": info.height,
        "fps": info.fps,
        "ingested_at": now,
    }


def _music_row(settings: Settings, day: dt.date, track: PendingRow, now: dt.datetime) -> Row:
    info = track.info
    assert info is not None
    row = track.row
    return {
        "music_id": track.id,
        "genre": row["genre"],
        "genre_group": settings.genres.group(str(row["genre"])),
        "title": row["title"],
        "artist": row["artist"],
        "content_hash": info.content_hash,
        "media_path": row["media_path"],
        "duration": info.duration,
        "dt": day,
        "ingested_at": now,
    }


def segment_rows(settings: ExtractSettings, day: dt.date, video: PendingRow) -> list[Row]:
    """Cut a music video into segments of `segment_seconds`, where it has picture and sound.

    A last segment shorter than `min_segment_seconds` is dropped, unless it is the only one.

    Args:
        settings: `[extract]`.
        day: the landing day.
        video: an accepted music video.

    Returns:
        Rows of table `segments`.
    """
    info = video.info
    assert info is not None
    rows: list[Row] = []
    start, last = info.paired
    while last - start >= settings.min_segment_seconds or not rows:
        end = min(start + settings.segment_seconds, last)
        rows.append(
            {
                "segment_id": f"{video.id}#{len(rows)}",
                "video_id": video.id,
                "content_hash": info.content_hash,
                "segment": len(rows),
                "start": start,
                "end": end,
                "dt": day,
            }
        )
        start = end
    return rows
