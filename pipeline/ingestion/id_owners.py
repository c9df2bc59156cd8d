"""Finds the earlier landing days that own the ids of a day's manifests."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from pipeline.ingestion.hidden_ids import is_deleted
from pipeline.ingestion.manifest import Manifest
from pipeline.lake.codes import IdKind
from pipeline.lake.tables import Lake

# id -> content hash and day of its owner, the earliest day that delivered it.
Owners = dict[str, tuple[str, dt.date]]


@dataclass(frozen=True)
class EarlierOwners:
    """The ids of a day's manifests that earlier days own.

    Attributes:
        videos: owners of the day's video ids.
        music: owners of the day's music ids, and of the tracks that its videos name.
        delivered_music: the ids of the day's own manifest of tracks.
        unknown_music: the tracks that its videos name, without those of `music`, of
            `delivered_music` and of deletion requests.
        deleted: the ids of the day whose deletion was requested.
    """

    videos: Owners
    music: Owners
    delivered_music: frozenset[str]
    unknown_music: frozenset[str]
    deleted: frozenset[str]

    @property
    def digest(self) -> str:
        """Hash of what decides about the rows, in hex; when it changes, the day must be read again.

        An erasure removes owners. It does not change the digest, because ids whose deletion was
        requested are left out, and of picked tracks only the unknown ones count.
        """
        delivered = {name: self.music[name] for name in self.delivered_music & self.music.keys()}
        owned = [
            sorted((name, owner) for name, owner in owners.items() if name not in self.deleted)
            for owners in (self.videos, delivered)
        ]
        decisive = [*owned, sorted(self.unknown_music)]
        return hashlib.sha256(json.dumps(decisive, default=str).encode()).hexdigest()


def find_earlier_owners(
    lake: Lake, day: dt.date, videos: Manifest, music: Manifest
) -> EarlierOwners:
    """Find the owners of the ids of a day's manifests among earlier days.

    Args:
        lake: with the catalogue and the deletion requests.
        day: the landing day; only earlier days count.
        videos: its manifest of videos.
        music: its manifest of tracks.
    """
    video_ids = {str(row["video_id"]) for _, row in videos.rows}
    delivered = frozenset(str(row["music_id"]) for _, row in music.rows)
    picked = {str(row["music_id"]) for _, row in videos.rows if row["music_id"]}
    requested = frozenset(lake.read("deletions")["id_hash"])
    deleted = {
        name
        for kind, names in ((IdKind.VIDEO, video_ids), (IdKind.MUSIC, delivered | picked))
        for name in names
        if is_deleted(requested, kind, name)
    }
    owners = _owners(lake, "music", "music_id", delivered | picked, day)
    return EarlierOwners(
        _owners(lake, "videos", "video_id", video_ids, day),
        owners,
        delivered,
        frozenset(picked - delivered - owners.keys() - deleted),
        frozenset(deleted),
    )


def _owners(lake: Lake, table: str, key: str, ids: Iterable[str], day: dt.date) -> Owners:
    wanted = pl.Series(sorted(ids), dtype=pl.String)
    rows = lake.collect(
        lake.scan(table)
        .filter(pl.col("dt") < day, pl.col(key).is_in(wanted.implode()))
        .select(key, "content_hash", "dt")
        .sort("dt", descending=True),
        table,
    )
    return {name: (content_hash, first) for name, content_hash, first in rows.iter_rows()}
