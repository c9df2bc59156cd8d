"""Decides which manifest rows are accepted into the catalogue.

Each rule takes pending rows, returns those that it accepts, and adds the others to `RejectedRows`
with their reason.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace

import polars as pl

from features import Job, JobKind, MediaError, MediaInfo, MediaPool
from features.workers.progress import report_progress
from pipeline.errors import RowReason, TooManyRejectsError
from pipeline.ingestion.hidden_ids import hide_deleted_ids, is_deleted, row_place
from pipeline.ingestion.id_owners import Owners
from pipeline.ingestion.landing_day import LandingDay
from pipeline.ingestion.manifest import BadRow, Manifest, Row
from pipeline.lake.catalog import id_hash
from pipeline.lake.codes import IdKind, Source
from pipeline.settings.load import Settings

# Year of a clock that was never set: the Unix epoch.
_UNSET_CLOCK_YEAR = 1970
# Reasons that do not count towards the reject share, because the delivery is not at fault.
_HARMLESS = [
    str(reason) for reason in (RowReason.REPEATED, RowReason.DELETED, RowReason.UNMATCHED_DELETION)
]


@dataclass(frozen=True)
class PendingRow:
    """A valid manifest row that is not yet accepted or rejected.

    Attributes:
        kind: `IdKind.VIDEO` or `IdKind.MUSIC`.
        id: the video_id or music_id.
        row: its fields.
        place: file and row number, for messages.
        info: what the probe found in its media file; None before the probe.
    """

    kind: IdKind
    id: str
    row: Row
    place: str
    info: MediaInfo | None = None

    @property
    def uploader_id(self) -> str | None:
        """The uploader; None for tracks and professional music videos."""
        uploader = self.row.get("uploader_id")
        return str(uploader) if uploader else None


@dataclass
class RejectedRows:
    """Collects the quarantine rows of one ingest.

    Attributes:
        day: the landing day.
        earlier_attempts: (kind, id) -> number of attempts before this one.
        deleted: `id_hash` of every id whose deletion was requested. No row contains such an id.
        rows: the collected rows of table `quarantine`.
    """

    day: dt.date
    earlier_attempts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    deleted: Set[str] = frozenset()
    rows: list[Row] = field(default_factory=list)
    # (kind, id) of `rows` -> the number to try first for the next row with this id.
    _next_numbers: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(
        self,
        kind: str,
        name: str,
        reason: str,
        detail: str,
        content_hash: str | None = None,
        uploader_id: str | None = None,
    ) -> None:
        """Reject a row.

        If the deletion of the row or of its uploader was requested, the reason is `deleted`, and
        the row is added without its id.

        Args:
            kind: "video" or "music".
            name: the id in the manifest.
            reason: a code of `RowReason` or `features.errors.Reason`.
            detail: what was wrong and where.
            content_hash: sha256 of the file, if it was read.
            uploader_id: uploader of the video, if the row names one.
        """
        if self.is_deleted(kind, name, uploader_id):
            name, reason = f"deleted:{id_hash(kind, name)[:16]}", RowReason.DELETED
            detail, content_hash, uploader_id = row_place(detail), None, None
        numbered = self._unused_id(kind, name)
        self.rows.append(
            {
                "kind": str(kind),
                "id": numbered,
                "dt": self.day,
                "step": "ingest",
                "reason": str(reason),
                "detail": hide_deleted_ids(self.deleted, detail),
                "content_hash": content_hash,
                "attempts": self.earlier_attempts.get((kind, numbered), 0) + 1,
                "uploader_id": uploader_id,
            }
        )

    def is_deleted(self, kind: str, name: str, uploader_id: str | None) -> bool:
        """Return whether the deletion of a row, or of its uploader, was requested."""
        return is_deleted(self.deleted, kind, name) or is_deleted(
            self.deleted, IdKind.UPLOADER, uploader_id
        )

    def _unused_id(self, kind: str, name: str) -> str:
        # Several rows of a manifest can have one id: the later ones become "id (2)" and so on.
        # The search continues at the last number, because all rows of a day can have one id.
        first = self._next_numbers.get((kind, name), 1)
        for number in itertools.count(first):
            numbered = name if number == 1 else f"{name} ({number})"
            if (kind, numbered) not in self._next_numbers:
                break
        self._next_numbers[kind, name] = number + 1
        self._next_numbers.setdefault((kind, numbered), 2)
        return numbered

    def add_bad(self, kind: str, bad: list[BadRow]) -> None:
        """Reject rows that the manifest reader could not read."""
        for row in bad:
            self.add(kind, row.id, row.reason, row.detail, uploader_id=row.uploader_id)

    def reject(self, pending: PendingRow, reason: str, detail: str) -> None:
        """Reject a pending row; the detail begins with its place."""
        content_hash = pending.info.content_hash if pending.info else None
        place = f"{pending.place}: {detail}"
        self.add(pending.kind, pending.id, reason, place, content_hash, pending.uploader_id)


def reject_duplicate_ids(
    kind: IdKind, manifest: Manifest, rejects: RejectedRows
) -> list[PendingRow]:
    """Return the manifest's rows; reject invalid ones, and all but the first row of an id."""
    rejects.add_bad(kind, manifest.bad)
    first: dict[str, PendingRow] = {}
    for number, row in manifest.rows:
        pending = PendingRow(kind, str(row[f"{kind}_id"]), row, f"{manifest.file} row {number}")
        earlier = first.setdefault(pending.id, pending)
        if earlier is not pending:
            rejects.reject(pending, RowReason.DUPLICATE_ID, f"first in {earlier.place}")
        elif row.get("source") == Source.UGC and (empty := _empty_fields(row)):
            rejects.reject(
                pending,
                RowReason.INVALID_FIELD,
                f"field {', field '.join(empty)}: empty for an uploader's video",
            )
            del first[pending.id]
    return list(first.values())


def _empty_fields(row: Row) -> list[str]:
    return [name for name in ("uploader_id", "music_id") if not row[name]]


def reject_deleted(pending_rows: list[PendingRow], rejects: RejectedRows) -> list[PendingRow]:
    """Reject rows whose deletion, or whose uploader's deletion, was requested.

    If the deletion of its track was requested, a video is accepted without the track. Erasure
    leaves such videos in the same form.
    """
    kept = []
    for pending in pending_rows:
        music_id = pending.row.get("music_id")
        if rejects.is_deleted(pending.kind, pending.id, pending.uploader_id):
            rejects.reject(pending, RowReason.DELETED, "")
        elif music_id and is_deleted(rejects.deleted, IdKind.MUSIC, str(music_id)):
            kept.append(replace(pending, row={**pending.row, "music_id": None}))
        else:
            kept.append(pending)
    return kept


def reject_implausible_times(
    settings: Settings, day: dt.date, pending_rows: list[PendingRow], rejects: RejectedRows
) -> list[PendingRow]:
    """Reject uploads after the end of the day plus the clock tolerance, and those before 1971."""
    end_of_day = dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), dt.UTC)
    latest = end_of_day + dt.timedelta(hours=settings.landing.clock_tolerance_hours)
    kept = []
    for pending in pending_rows:
        uploaded_at = pending.row.get("uploaded_at")
        if not isinstance(uploaded_at, dt.datetime):
            kept.append(pending)
        elif uploaded_at > latest:
            rejects.reject(
                pending,
                RowReason.FUTURE_UPLOAD,
                f"field uploaded_at: {uploaded_at.isoformat()} is after {latest.isoformat()}",
            )
        elif uploaded_at.year <= _UNSET_CLOCK_YEAR:
            rejects.reject(
                pending,
                RowReason.INVALID_FIELD,
                f"field uploaded_at: {uploaded_at.isoformat()}, from a clock that was never set",
            )
        else:
            kept.append(pending)
    return kept


def probe_media(
    settings: Settings, landing: LandingDay, pending_rows: list[PendingRow], rejects: RejectedRows
) -> list[PendingRow]:
    """Probe the media files; reject rows whose file is missing, changed or cannot be decoded.

    Returns:
        The other rows, with `PendingRow.info`.
    """
    jobs = []
    by_key = {}
    for pending in pending_rows:
        media_path = str(pending.row["media_path"])
        path = landing.resolve(media_path)
        if path is None:
            rejects.reject(
                pending, RowReason.OUTSIDE_LANDING, f"field media_path: {media_path!r:.200}"
            )
            continue
        expected = pending.row["sha256"]
        jobs.append(
            Job(
                pending.id,
                path,
                JobKind.PROBE_MUSIC if pending.kind == IdKind.MUSIC else JobKind.PROBE_VIDEO,
                str(expected) if expected else None,
            )
        )
        by_key[pending.id] = pending
    infos: dict[str, MediaInfo] = {}
    with MediaPool(settings.extract.workers, settings.limits, None, None) as pool:
        for job, outcome in report_progress(pool.run(jobs), len(jobs), f"probe {landing.day}"):
            pending = by_key[job.key]
            if isinstance(outcome, MediaError):
                rejects.reject(pending, outcome.reason, outcome.detail)
            else:
                assert isinstance(outcome, MediaInfo)
                infos[job.key] = outcome
    return [
        PendingRow(c.kind, c.id, c.row, c.place, infos[c.id]) for c in pending_rows if c.id in infos
    ]


def reject_owned_ids(
    owners: Owners, pending_rows: list[PendingRow], rejects: RejectedRows
) -> list[PendingRow]:
    """Reject rows whose id an earlier day owns."""
    kept = []
    for pending in pending_rows:
        assert pending.info is not None
        if pending.id not in owners:
            kept.append(pending)
            continue
        content_hash, first_day = owners[pending.id]
        same = content_hash == pending.info.content_hash
        reason = RowReason.REPEATED if same else RowReason.ID_CONFLICT
        rejects.reject(pending, reason, f"the id belongs to day {first_day}")
    return kept


def reject_unknown_music(
    known: Set[str], pending_rows: list[PendingRow], rejects: RejectedRows
) -> list[PendingRow]:
    """Reject videos whose track was not delivered up to the end of their day.

    Args:
        known: ids of the tracks that were delivered.
        pending_rows: videos.
        rejects: collects the rejected rows.
    """
    kept = []
    for pending in pending_rows:
        music_id = pending.row["music_id"]
        if music_id is None or music_id in known:
            kept.append(pending)
        else:
            rejects.reject(
                pending, RowReason.UNKNOWN_MUSIC, f"field music_id: {str(music_id)!r:.200}"
            )
    return kept


def refuse_too_many_rejects(rejected: pl.DataFrame, rows: int, allowed: float, where: str) -> None:
    """Fail if more rows were rejected than allowed.

    Rows with a harmless reason count neither as rows nor as rejected rows.

    Args:
        rejected: the day's rejected rows, of table `quarantine`.
        rows: number of all rows of the day, rejected or not.
        allowed: largest share of rejected rows, from 0 to 1.
        where: the landing day, for the message.

    Raises:
        TooManyRejectsError: the share is larger; the message has the counts per reason.
    """
    faulty = rejected.filter(~pl.col("reason").is_in(_HARMLESS))
    counted = rows - (len(rejected) - len(faulty))
    if counted and len(faulty) / counted > allowed:
        reasons = dict(faulty["reason"].value_counts(sort=True).iter_rows())
        raise TooManyRejectsError(
            f"{len(faulty)} of {counted} rows rejected, {allowed:.0%} allowed: {reasons}",
            where=where,
        )
