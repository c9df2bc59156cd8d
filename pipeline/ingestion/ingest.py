"""landing -> catalogue and quarantine: every row of a day ends in one of the two."""

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
    RowReason,
    TooManyRejectsError,
)
from pipeline.ingestion.delivery import Delivery, complete_days, read_delivery, retryable_rejects
from pipeline.ingestion.landing_day import LandingDay
from pipeline.ingestion.manifest import Manifest, Row
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
from pipeline.lake.catalog import id_hash
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings
from pipeline.settings.sections import ExtractSettings

log = logging.getLogger(__name__)

# Reasons that say nothing against the delivery: they do not count towards the reject share.
HARMLESS = {RowReason.REPEATED, RowReason.DELETED}


@dataclass(frozen=True)
class IngestSummary:
    """What one ingest did.

    Attributes:
        day: the landing day, ISO.
        unchanged: the day was as it had been ingested before, and nothing was read or written.
        rows: rows of the videos and music manifests.
        accepted: rows in the catalogue.
        rejected: rows in quarantine, by reason.
    """

    day: str
    unchanged: bool
    rows: int
    accepted: int
    rejected: dict[str, int]


def run(context: Context, day: dt.date) -> IngestSummary:
    """Read one landing day into the catalogue; what cannot enter it goes to quarantine.

    Running it again over an unchanged day does nothing, unless a file of it may be tried again;
    over a changed day, it replaces the day's rows. Earlier complete days that nobody has read yet
    are read first: rows of this day may name their tracks, and a backfill that runs its days side
    by side must end as the nights would have.

    Raises:
        DayNotReadyError: `_SUCCESS` is missing.
        LandingAccessError: the folder or a manifest may not be read.
        ManifestError: a manifest cannot be read as a whole.
        TooManyRejectsError: more than `[landing] reject_share` was rejected; the quarantine is
            written, the catalogue is left as it was.
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
    read = set(lake.read("landing_days")["dt"])
    refused = {refusal.day: refusal.fingerprint for refusal in read_refused_days(lake)}
    for earlier in complete_days(settings, first, day - dt.timedelta(days=1)):
        if earlier in read:
            continue
        delivery = read_delivery(settings, lake, earlier)
        if refused.get(earlier) == delivery.fingerprint:
            continue
        try:
            _ingest_day(settings, lake, earlier, delivery)
        except Permanent as error:
            # Its own run fails, remembers that, and wakes somebody; this day must not.
            log.warning("day %s, read on the way to %s, failed: %s", earlier, day, error)


def _ingest_day(settings: Settings, lake: Lake, day: dt.date, delivery: Delivery) -> IngestSummary:
    # Deletions are law: what is wrong with the day's other manifests does not hold them up.
    requests = delivery.landing.manifest("deletions")
    _record_deletions(lake, day, requests)
    if delivery.fault:
        raise delivery.fault
    previous = lake.read("landing_days", pl.col("dt") == day)
    earlier_tries: dict[tuple[str, str], int] = {}
    if previous["fingerprint"].to_list() == [delivery.fingerprint]:
        rejected = lake.read("quarantine", pl.col("dt") == day, pl.col("step") == "ingest")
        if rejected.filter(retryable_rejects(settings)).is_empty():
            log.info("day %s: unchanged since its ingest", day)
            return _unchanged(day, previous, rejected)
        tried = rejected.select("kind", "id", "attempts").iter_rows()
        earlier_tries = {(kind, name): attempts for kind, name, attempts in tried}
        # The day is not whole while it is written again: a kill must not leave it marked as read.
        lake.replace("landing_days", TABLES["landing_days"].empty, {"dt": day})
    rejects = RejectedRows(day, earlier_tries)
    rejects.add_bad("video", requests.bad)
    accepted = _admitted(settings, lake, day, delivery, rejects)
    rows = sum(len(m.rows) + len(m.bad) for m in delivery.manifests.values()) + len(requests.bad)
    quarantine = TABLES["quarantine"].frame(rejects.rows)
    lake.replace("quarantine", quarantine, {"dt": day, "step": "ingest"})
    refuse_too_many_rejects(
        quarantine.filter(~pl.col("reason").is_in([str(r) for r in HARMLESS])),
        rows,
        settings.landing.reject_share,
        str(delivery.landing.folder),
    )
    _write_catalogue(settings, lake, day, accepted)
    done = {
        "dt": day,
        "fingerprint": delivery.fingerprint,
        "rows": rows,
        "accepted": sum(map(len, accepted.values())),
        "rejected": len(quarantine),
        "finished_at": dt.datetime.now(dt.UTC),
    }
    # The day's own row comes last: it says that the other tables hold the day.
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


def _admitted(
    settings: Settings, lake: Lake, day: dt.date, delivery: Delivery, rejects: RejectedRows
) -> dict[str, list[PendingRow]]:
    """The candidates of each kind that every rule lets in."""
    accepted: dict[str, list[PendingRow]] = {}
    owners = {"music": delivery.earlier.music, "video": delivery.earlier.videos}
    for kind in ("music", "video"):
        candidates = reject_duplicate_ids(kind, delivery.manifests[kind], rejects)
        candidates = reject_deleted(lake, candidates, rejects)
        candidates = reject_implausible_times(settings, day, candidates, rejects)
        candidates = probe_media(settings, delivery.landing, candidates, rejects)
        accepted[kind] = reject_owned_ids(owners[kind], candidates, rejects)
    known = delivery.earlier.music.keys() | {track.id for track in accepted["music"]}
    accepted["video"] = reject_unknown_music(known, accepted["video"], rejects)
    return accepted


def _unchanged(day: dt.date, previous: pl.DataFrame, rejected: pl.DataFrame) -> IngestSummary:
    return IngestSummary(
        day.isoformat(),
        unchanged=True,
        rows=previous["rows"][0],
        accepted=previous["accepted"][0],
        rejected=dict(Counter(rejected["reason"].to_list())),
    )


def _record_deletions(lake: Lake, day: dt.date, requests: Manifest) -> None:
    for bad in requests.bad:
        # A deletion that cannot be read must not be lost in a day's noise.
        log.error("deletion request not readable: %s", bad.detail)
    rows: dict[tuple[object, ...], Row] = {
        (row["kind"], row["id"]): {
            "kind": row["kind"],
            "id_hash": id_hash(str(row["kind"]), str(row["id"])),
            "requested_at": row["requested_at"],
            "dt": day,
        }
        for _, row in requests.rows
    }
    lake.add("deletions", TABLES["deletions"].frame(list(rows.values())))


def _write_catalogue(
    settings: Settings, lake: Lake, day: dt.date, accepted: dict[str, list[PendingRow]]
) -> None:
    now = dt.datetime.now(dt.UTC)
    tables = {
        "music": [_music_row(settings, day, c, now) for c in accepted["music"]],
        "segments": [
            segment
            for c in accepted["video"]
            if c.row["source"] == "pgc"
            for segment in segment_rows(settings.extract, day, c)
        ],
        "videos": [_video_row(day, c, now) for c in accepted["video"]],
    }
    for table, rows in tables.items():
        frame = TABLES[table].frame(rows)
        if "ingested_at" in frame.columns:
            frame = _keep_first_time(frame, lake.read(table, pl.col("dt") == day))
        lake.replace(table, frame, {"dt": day})


def _keep_first_time(new: pl.DataFrame, old: pl.DataFrame) -> pl.DataFrame:
    """Rows that stood in the table before keep their `ingested_at`: a repeat changes nothing."""
    same = [column for column in new.columns if column != "ingested_at"]
    return (
        new.join(old, on=same, how="left", suffix="_old", nulls_equal=True, maintain_order="left")
        .with_columns(pl.coalesce("ingested_at_old", "ingested_at").alias("ingested_at"))
        .drop("ingested_at_old")
    )


def _video_row(day: dt.date, candidate: PendingRow, now: dt.datetime) -> Row:
    info = candidate.info
    assert info is not None
    row = candidate.row
    return {
        "video_id": candidate.id,
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


def _music_row(settings: Settings, day: dt.date, candidate: PendingRow, now: dt.datetime) -> Row:
    info = candidate.info
    assert info is not None
    row = candidate.row
    return {
        "music_id": candidate.id,
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


def segment_rows(settings: ExtractSettings, day: dt.date, candidate: PendingRow) -> list[Row]:
    """What of a music video has both picture and sound, cut into windows of `segment_seconds`.

    A rest shorter than `min_segment_seconds` is left out.
    """
    info = candidate.info
    assert info is not None
    rows: list[Row] = []
    start, last = info.paired
    while last - start >= settings.min_segment_seconds or not rows:
        end = min(start + settings.segment_seconds, last)
        rows.append(
            {
                "segment_id": f"{candidate.id}#{len(rows)}",
                "video_id": candidate.id,
                "content_hash": info.content_hash,
                "segment": len(rows),
                "start": start,
                "end": end,
                "dt": day,
            }
        )
        start = end
    return rows
