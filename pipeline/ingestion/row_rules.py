"""Who may enter the catalogue: each rule takes candidates and gives back those that keep it.

What a rule turns away is written to `RejectedRows` with its reason; nothing leaves in silence.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Mapping, Set
from dataclasses import dataclass, field

import polars as pl

from features import Job, JobKind, MediaError, MediaInfo, MediaPool
from pipeline.errors import RowReason, TooManyRejectsError
from pipeline.ingestion.id_owners import Owners
from pipeline.ingestion.landing_day import LandingDay
from pipeline.ingestion.manifest import BadRow, Manifest, Row
from pipeline.lake.catalog import id_hash
from pipeline.lake.tables import Lake
from pipeline.progress import progress
from pipeline.settings.load import Settings

_UNSET_CLOCK = 1970


@dataclass(frozen=True)
class PendingRow:
    """A manifest row on its way to the catalogue."""

    kind: str
    id: str
    row: Row
    place: str
    info: MediaInfo | None = None


@dataclass
class RejectedRows:
    """Quarantine rows of one ingest, in the making.

    Attributes:
        day: the landing day.
        tried: (kind, id) -> how often the same delivery of it was tried before.
    """

    day: dt.date
    tried: Mapping[tuple[str, str], int] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    # One id can be rejected in several rows of a manifest; quarantine has one row for each.
    _taken: set[tuple[str, str]] = field(default_factory=set)

    def add(
        self, kind: str, name: str, reason: str, detail: str, content_hash: str | None = None
    ) -> None:
        """Reject what has this id, for a reason of the closed set."""
        numbered = self._numbered(kind, name)
        self._taken.add((kind, numbered))
        self.rows.append(
            {
                "kind": kind,
                "id": numbered,
                "dt": self.day,
                "step": "ingest",
                "reason": str(reason),
                "detail": detail,
                "content_hash": content_hash,
                "attempts": self.tried.get((kind, numbered), 0) + 1,
            }
        )

    def _numbered(self, kind: str, name: str) -> str:
        """The id, or "id (2)" and so on where that stands in quarantine already."""
        names = itertools.chain([name], (f"{name} ({count})" for count in itertools.count(2)))
        return next(each for each in names if (kind, each) not in self._taken)

    def add_bad(self, kind: str, bad: list[BadRow]) -> None:
        """Reject rows that could not be read."""
        for row in bad:
            self.add(kind, row.id, row.reason, row.detail)

    def reject(self, candidate: PendingRow, reason: str, detail: str) -> None:
        """Reject a candidate, saying where its row stands."""
        content_hash = candidate.info.content_hash if candidate.info else None
        self.add(candidate.kind, candidate.id, reason, f"{candidate.place}: {detail}", content_hash)


def reject_duplicate_ids(kind: str, manifest: Manifest, rejects: RejectedRows) -> list[PendingRow]:
    """The manifest's valid rows; the first of several rows with one id counts."""
    rejects.add_bad(kind, manifest.bad)
    first: dict[str, PendingRow] = {}
    for number, row in manifest.rows:
        candidate = PendingRow(kind, str(row[f"{kind}_id"]), row, f"{manifest.file} row {number}")
        earlier = first.setdefault(candidate.id, candidate)
        if earlier is not candidate:
            rejects.reject(candidate, RowReason.DUPLICATE_ID, f"first in {earlier.place}")
        elif row.get("source") == "ugc" and (empty := _empty_fields(row)):
            rejects.reject(
                candidate,
                RowReason.INVALID_FIELD,
                f"field {', field '.join(empty)}: empty for an uploader's video",
            )
            del first[candidate.id]
    return list(first.values())


def _empty_fields(row: Row) -> list[str]:
    return [name for name in ("uploader_id", "music_id") if not row[name]]


def reject_deleted(
    lake: Lake, candidates: list[PendingRow], rejects: RejectedRows
) -> list[PendingRow]:
    """The candidates whose deletion, or whose uploader's, nobody has requested."""
    deleted = set(lake.read("deletions")["id_hash"])
    if not deleted:
        return candidates
    kept = []
    for candidate in candidates:
        hashes = {id_hash(candidate.kind, candidate.id)}
        if candidate.row.get("uploader_id"):
            hashes.add(id_hash("uploader", str(candidate.row["uploader_id"])))
        if hashes & deleted:
            # Neither id nor detail may bring back what was deleted.
            rejects.add(
                candidate.kind,
                f"deleted:{id_hash(candidate.kind, candidate.id)[:16]}",
                RowReason.DELETED,
                candidate.place,
            )
        else:
            kept.append(candidate)
    return kept


def reject_implausible_times(
    settings: Settings, day: dt.date, candidates: list[PendingRow], rejects: RejectedRows
) -> list[PendingRow]:
    """The candidates that were uploaded before their day ended, by a tolerable clock.

    A clock that was never set says 1970.
    """
    end_of_day = dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), dt.UTC)
    latest = end_of_day + dt.timedelta(hours=settings.landing.clock_tolerance_hours)
    kept = []
    for candidate in candidates:
        uploaded_at = candidate.row.get("uploaded_at")
        if not isinstance(uploaded_at, dt.datetime):
            kept.append(candidate)
        elif uploaded_at > latest:
            rejects.reject(
                candidate,
                RowReason.FUTURE_UPLOAD,
                f"field uploaded_at: {uploaded_at.isoformat()} is after {latest.isoformat()}",
            )
        elif uploaded_at.year <= _UNSET_CLOCK:
            rejects.reject(
                candidate,
                RowReason.INVALID_FIELD,
                f"field uploaded_at: {uploaded_at.isoformat()} is what a clock says that was "
                "never set",
            )
        else:
            kept.append(candidate)
    return kept


def probe_media(
    settings: Settings, landing: LandingDay, candidates: list[PendingRow], rejects: RejectedRows
) -> list[PendingRow]:
    """The candidates whose file is there, has the promised hash and can be decoded."""
    jobs = []
    by_key = {}
    for candidate in candidates:
        media_path = str(candidate.row["media_path"])
        path = landing.resolve(media_path)
        if path is None:
            rejects.reject(
                candidate, RowReason.OUTSIDE_LANDING, f"field media_path: {media_path!r:.200}"
            )
            continue
        expected = candidate.row["sha256"]
        jobs.append(
            Job(
                candidate.id,
                path,
                JobKind.PROBE_MUSIC if candidate.kind == "music" else JobKind.PROBE_VIDEO,
                str(expected) if expected else None,
            )
        )
        by_key[candidate.id] = candidate
    infos: dict[str, MediaInfo] = {}
    with MediaPool(settings.extract.workers, settings.limits, None, None) as pool:
        for job, outcome in progress(pool.run(jobs), len(jobs), f"probe {landing.day}"):
            candidate = by_key[job.key]
            if isinstance(outcome, MediaError):
                rejects.reject(candidate, outcome.reason, outcome.detail)
            else:
                assert isinstance(outcome, MediaInfo)
                infos[job.key] = outcome
    return [
        PendingRow(c.kind, c.id, c.row, c.place, infos[c.id]) for c in candidates if c.id in infos
    ]


def reject_owned_ids(
    owners: Owners, candidates: list[PendingRow], rejects: RejectedRows
) -> list[PendingRow]:
    """The candidates whose id no earlier day has given to a file."""
    kept = []
    for candidate in candidates:
        assert candidate.info is not None
        if candidate.id not in owners:
            kept.append(candidate)
            continue
        content_hash, first_day = owners[candidate.id]
        same = content_hash == candidate.info.content_hash
        reason = RowReason.REPEATED if same else RowReason.ID_CONFLICT
        rejects.reject(candidate, reason, f"the id belongs to day {first_day}")
    return kept


def reject_unknown_music(
    known: Set[str], candidates: list[PendingRow], rejects: RejectedRows
) -> list[PendingRow]:
    """The videos whose track was delivered by the end of their day."""
    kept = []
    for candidate in candidates:
        music_id = candidate.row["music_id"]
        if music_id is None or music_id in known:
            kept.append(candidate)
        else:
            rejects.reject(
                candidate, RowReason.UNKNOWN_MUSIC, f"field music_id: {str(music_id)!r:.200}"
            )
    return kept


def refuse_too_many_rejects(rejected: pl.DataFrame, rows: int, allowed: float, where: str) -> None:
    """Fail a day when more of its rows were rejected than is allowed.

    Raises:
        TooManyRejectsError: with the counts per reason.
    """
    if rows and len(rejected) / rows > allowed:
        reasons = dict(rejected["reason"].value_counts(sort=True).iter_rows())
        raise TooManyRejectsError(
            f"{len(rejected)} of {rows} rows rejected, {allowed:.0%} allowed: {reasons}",
            where=where,
        )
