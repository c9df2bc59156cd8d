"""Records the deletion requests of a landing day, and finds those that match nothing."""

from __future__ import annotations

import datetime as dt
import logging
import unicodedata
from collections.abc import Mapping
from dataclasses import replace

import polars as pl

from pipeline.context import Context
from pipeline.errors import ManifestError, PipelineError, RowReason
from pipeline.ingestion.delivery import complete_days
from pipeline.ingestion.hidden_ids import row_place
from pipeline.ingestion.landing_day import LandingDay
from pipeline.ingestion.manifest import BadRow, Manifest, Row
from pipeline.ingestion.row_rules import RejectedRows
from pipeline.lake.catalog import id_hash
from pipeline.lake.codes import IdKind
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake

log = logging.getLogger(__name__)

# Columns of tables with ids of each kind, besides `id` of `quarantine`.
_COLUMNS = {
    IdKind.VIDEO: (("videos", "video_id"), ("segments", "video_id")),
    IdKind.MUSIC: (("music", "music_id"),),
    IdKind.UPLOADER: (
        ("videos", "uploader_id"),
        ("uploader_genres", "uploader_id"),
        ("quarantine", "uploader_id"),
    ),
}


def record_deletions(lake: Lake, day: dt.date, requests: Manifest) -> None:
    """Record deletion requests as hashes of ids; log those that cannot be read.

    Args:
        lake: with the table `deletions`.
        day: the landing day.
        requests: its manifest of deletion requests.
    """
    for bad in requests.bad:
        # An unreadable deletion request must be noticed.
        log.error("a deletion request cannot be read: %s", bad.detail)
    _add(lake, _hashed(day, requests))


def _hashed(day: dt.date, requests: Manifest) -> list[Row]:
    return [
        {
            "kind": row["kind"],
            "id_hash": id_hash(str(row["kind"]), str(row["id"])),
            "requested_at": row["requested_at"],
            "dt": day,
        }
        for _, row in requests.rows
    ]


def _add(lake: Lake, rows: list[Row]) -> None:
    """Add rows to table `deletions`; of several with one id, the first."""
    first: dict[object, Row] = {}
    for row in rows:
        first.setdefault((row["kind"], row["id_hash"]), row)
    lake.add("deletions", TABLES["deletions"].frame(list(first.values())))


def without_id(bad: BadRow) -> BadRow:
    """Return an unreadable request for the quarantine, which must not have the id that it names."""
    return replace(bad, id=row_place(bad.detail).replace(" row ", ":"))


def record_all_deletions(context: Context) -> list[PipelineError]:
    """Record the deletion requests of every complete landing day, whatever its age.

    Ingest reads only new and changed days of the lookback.

    Args:
        context: settings and lake.

    Returns:
        One error per manifest, or storage, that cannot be read, and per manifest with unreadable
        rows that are not in quarantine.
    """
    settings, lake = context.settings, context.lake
    errors: list[PipelineError] = []
    rows: list[Row] = []
    try:
        days = complete_days(settings, dt.date.min, dt.date.max)
    except PipelineError as error:
        return [error]
    for day in days:
        landing = LandingDay(settings.landing.root, day)
        try:
            requests = landing.manifest("deletions")
        except PipelineError as error:
            errors.append(error)
            continue
        rows += _hashed(day, requests)
        if requests.bad:
            # Compare places only: in quarantine, a detail has no ids of other requests.
            details = lake.read("quarantine", pl.col("dt") == day)["detail"]
            rejected = {row_place(detail) for detail in details}
            unknown = [bad.detail for bad in requests.bad if row_place(bad.detail) not in rejected]
            if unknown:
                errors.append(
                    ManifestError(
                        f"{len(unknown)} deletion requests cannot be read, the first: {unknown[0]}",
                        where=str(landing.folder),
                    )
                )
    if rows:
        _add(lake, rows)
    return errors


def report_unmatched(
    lake: Lake,
    day: dt.date,
    requests: Manifest,
    manifests: Mapping[IdKind, Manifest],
    rejects: RejectedRows,
) -> int:
    """Quarantine the requests whose id is neither in the lake nor in the day's manifests.

    An id that an earlier request named, or that was erased already, is not reported.

    Args:
        lake: the tables.
        day: the landing day.
        requests: its manifest of deletion requests.
        manifests: its manifests of videos and tracks.
        rejects: collects the unmatched requests.

    Returns:
        The number of unmatched requests.
    """
    asked: dict[tuple[IdKind, str], int] = {}
    for number, row in requests.rows:
        asked.setdefault((IdKind(str(row["kind"])), str(row["id"])), number)
    if not asked:
        return 0
    earlier = set(lake.read("deletions", pl.col("dt") != day)["id_hash"])
    erasures = lake.read("erasures")
    answered = {*earlier, *erasures["request_hash"], *erasures["item_hash"]}
    unmatched = 0
    for kind in IdKind:
        names = {
            name: number
            for (asked_kind, name), number in asked.items()
            if asked_kind == kind and id_hash(kind, name) not in answered
        }
        known = _known_ids(lake, kind, {each for name in names for each in _spellings(name)})
        known |= _delivered_ids(kind, manifests)
        for name in sorted(names.keys() - known):
            detail = f"{requests.file} row {names[name]}: no {kind} has this id"
            if _spellings(name) & known:
                detail += "; one has an id that looks the same, with other characters"
            log.warning("deletion request: %s", detail)
            # The quarantine must not contain an id whose deletion was requested.
            hidden = f"deletion:{id_hash(kind, name)[:16]}"
            rejects.add(_quarantine_kind(kind), hidden, RowReason.UNMATCHED_DELETION, detail)
            unmatched += 1
    return unmatched


def _quarantine_kind(kind: IdKind) -> IdKind:
    """Return the kind under which table `quarantine` keeps a request; it has no uploaders."""
    return IdKind.MUSIC if kind == IdKind.MUSIC else IdKind.VIDEO


def _known_ids(lake: Lake, kind: IdKind, names: set[str]) -> set[str]:
    """Return those of the names that are ids in the catalogue or in quarantine."""
    if not names:
        return set()
    wanted = pl.Series(sorted(names), dtype=pl.String).implode()
    found: set[str] = set()
    for table, column in _COLUMNS[kind]:
        rows = lake.scan(table).filter(pl.col(column).is_in(wanted)).select(column).unique()
        found |= set(lake.collect(rows, table)[column])
    # Repeated rows of an id in a manifest are numbered in quarantine: "v1 (2)".
    rejected = lake.scan("quarantine").filter(pl.col("kind") == kind)
    plain = rejected.select(pl.col("id").str.replace(r" \(\d+\)$", "")).unique()
    return found | (set(lake.collect(plain, "quarantine")["id"]) & names)


def _delivered_ids(kind: IdKind, manifests: Mapping[IdKind, Manifest]) -> set[str]:
    if kind == IdKind.UPLOADER:
        videos = manifests[IdKind.VIDEO]
        unreadable = {bad.uploader_id for bad in videos.bad if bad.uploader_id}
        return {str(row["uploader_id"]) for _, row in videos.rows} | unreadable
    manifest = manifests[kind]
    return {str(row[f"{kind}_id"]) for _, row in manifest.rows} | {bad.id for bad in manifest.bad}


def _spellings(name: str) -> set[str]:
    """Return the id, and ids that look the same: composed, decomposed, no invisible characters."""
    visible = "".join(each for each in name if unicodedata.category(each) != "Cf")
    forms = {
        unicodedata.normalize(form, text) for form in ("NFC", "NFD") for text in (name, visible)
    }
    return {name, visible, *forms}
