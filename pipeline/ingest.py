"""landing -> catalogue and quarantine: every row of a day ends in one of the two."""

from __future__ import annotations

import datetime as dt
import logging
from collections import Counter
from dataclasses import dataclass

import polars as pl

from pipeline.admission import (
    Candidate,
    Rejects,
    first_of_each_id,
    not_deleted,
    not_taken,
    plausible,
    probed,
    refuse_too_many_rejects,
    with_music,
)
from pipeline.catalog import id_hash
from pipeline.earlier import Earlier, look_up
from pipeline.errors import Permanent, RowReason
from pipeline.lake import Lake
from pipeline.landing import LandingDay, Manifest, Row, landing_days
from pipeline.schemas import TABLES
from pipeline.settings import ExtractSettings, Settings

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


@dataclass(frozen=True)
class Delivery:
    """A landing day as it was delivered, before any media file is opened.

    Attributes:
        landing: its folder.
        manifests: of "music" and "video".
        earlier: what earlier days decide about its rows.
        fingerprint: hash over the files, the settings that matter, and `earlier`.
    """

    landing: LandingDay
    manifests: dict[str, Manifest]
    earlier: Earlier
    fingerprint: str


def ingest(settings: Settings, lake: Lake, day: dt.date) -> IngestSummary:
    """Read one landing day into the catalogue; what cannot enter it goes to quarantine.

    Running it again over an unchanged day does nothing; over a changed day, it replaces the
    day's rows. Earlier complete days that nobody has read yet are read first: rows of this day
    may name their tracks, and a backfill that runs its days side by side must end as the nights
    would have.

    Raises:
        DayNotReadyError: `_SUCCESS` is missing.
        ManifestError: a manifest cannot be read as a whole.
        TooManyRejectsError: more than `[landing] reject_share` was rejected; the quarantine is
            written, the catalogue is left as it was.
    """
    LandingDay(settings.landing.root, day).require_success()
    first = day - dt.timedelta(days=settings.landing.lookback_days)
    read = set(lake.read("landing_days")["dt"])
    for earlier in complete_days(settings, first, day - dt.timedelta(days=1)):
        if earlier not in read:
            try:
                _ingest_day(settings, lake, earlier)
            except Permanent as error:
                # Its own run fails and wakes somebody; this day must not fail with it.
                log.warning("day %s, read on the way to %s, failed: %s", earlier, day, error)
    return _ingest_day(settings, lake, day)


def unfinished_days(
    settings: Settings, lake: Lake, first: dt.date, last: dt.date
) -> dict[dt.date, str]:
    """Complete landing days from `first` to `last` that need a run, in order: day -> fingerprint.

    That is: an ingest would read them anew, or they were not accounted for since their ingest.
    """
    read = dict(lake.read("landing_days").select("dt", "fingerprint").iter_rows())
    ingested = dict(lake.read("landing_days").select("dt", "finished_at").iter_rows())
    checked = dict(lake.read("feature_days").select("dt", "finished_at").iter_rows())
    found = {
        day: _delivery(settings, lake, day).fingerprint
        for day in complete_days(settings, first, last)
    }
    return {
        day: fingerprint
        for day, fingerprint in found.items()
        if day not in checked
        or ingested.get(day, checked[day]) > checked[day]
        or fingerprint != read.get(day)
    }


def complete_days(settings: Settings, first: dt.date, last: dt.date) -> list[dt.date]:
    """Landing days from `first` to `last` that hold `_SUCCESS`, in order."""
    root = settings.landing.root
    days = [day for day in landing_days(root) if first <= day <= last]
    return [day for day in days if LandingDay(root, day).is_complete]


def _delivery(settings: Settings, lake: Lake, day: dt.date) -> Delivery:
    landing = LandingDay(settings.landing.root, day)
    manifests = {kind: landing.manifest(name) for kind, name in _MANIFESTS.items()}
    earlier = look_up(lake, day, manifests["video"], manifests["music"])
    fingerprint = landing.fingerprint(_salt(settings) + earlier.digest)
    return Delivery(landing, manifests, earlier, fingerprint)


def _ingest_day(settings: Settings, lake: Lake, day: dt.date) -> IngestSummary:
    delivery = _delivery(settings, lake, day)
    previous = lake.read("landing_days", pl.col("dt") == day)
    if previous["fingerprint"].to_list() == [delivery.fingerprint]:
        log.info("day %s: unchanged since its ingest", day)
        return _unchanged(lake, day, previous)
    rejects = Rejects(day)
    _record_deletions(lake, delivery.landing, day, rejects)
    accepted = _admitted(settings, lake, day, delivery, rejects)
    rows = sum(len(m.rows) + len(m.bad) for m in delivery.manifests.values())
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
    settings: Settings, lake: Lake, day: dt.date, delivery: Delivery, rejects: Rejects
) -> dict[str, list[Candidate]]:
    """The candidates of each kind that every rule lets in."""
    accepted: dict[str, list[Candidate]] = {}
    owners = {"music": delivery.earlier.music, "video": delivery.earlier.videos}
    for kind in ("music", "video"):
        candidates = first_of_each_id(kind, delivery.manifests[kind], rejects)
        candidates = not_deleted(lake, candidates, rejects)
        candidates = plausible(settings, day, candidates, rejects)
        candidates = probed(settings, delivery.landing, candidates, rejects)
        accepted[kind] = not_taken(owners[kind], candidates, rejects)
    known = delivery.earlier.music.keys() | {track.id for track in accepted["music"]}
    accepted["video"] = with_music(known, accepted["video"], rejects)
    return accepted


_MANIFESTS = {"music": "music", "video": "videos"}


def _salt(settings: Settings) -> str:
    """Settings that change what an ingest of the same files writes."""
    relevant = (
        settings.genres,
        settings.limits,
        settings.landing.clock_tolerance_hours,
        settings.extract.segment_seconds,
        settings.extract.min_segment_seconds,
    )
    return repr(relevant)


def _unchanged(lake: Lake, day: dt.date, previous: pl.DataFrame) -> IngestSummary:
    quarantine = lake.read("quarantine", pl.col("dt") == day, pl.col("step") == "ingest")
    return IngestSummary(
        day.isoformat(),
        unchanged=True,
        rows=previous["rows"][0],
        accepted=previous["accepted"][0],
        rejected=dict(Counter(quarantine["reason"].to_list())),
    )


def _record_deletions(lake: Lake, landing: LandingDay, day: dt.date, rejects: Rejects) -> None:
    requests = landing.manifest("deletions")
    for bad in requests.bad:
        # A deletion that cannot be read must not be lost in a day's noise.
        log.error("deletion request not readable: %s", bad.detail)
        rejects.add("video", bad.id, bad.reason, bad.detail)
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
    settings: Settings, lake: Lake, day: dt.date, accepted: dict[str, list[Candidate]]
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


def _video_row(day: dt.date, candidate: Candidate, now: dt.datetime) -> Row:
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


def _music_row(settings: Settings, day: dt.date, candidate: Candidate, now: dt.datetime) -> Row:
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


def segment_rows(settings: ExtractSettings, day: dt.date, candidate: Candidate) -> list[Row]:
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
