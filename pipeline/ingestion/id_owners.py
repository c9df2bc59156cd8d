"""Finds the earlier landing days that own the ids of a day's manifests."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from pipeline.ingestion.manifest import Manifest
from pipeline.lake.tables import Lake

# id -> content hash and day of its owner, the earliest day that delivered it.
Owners = dict[str, tuple[str, dt.date]]


@dataclass(frozen=True)
class EarlierOwners:
    """The ids of a day's manifests that earlier days own.

    Attributes:
        videos: owners of the day's video ids.
        music: owners of the day's music ids, and of the tracks that its videos name.
    """

    videos: Owners
    music: Owners

    @property
    def digest(self) -> str:
        """Hash of all owners, in hex; when it changes, the day must be read again."""
        owned = [sorted(owners.items()) for owners in (self.videos, self.music)]
        return hashlib.sha256(json.dumps(owned, default=str).encode()).hexdigest()


def find_earlier_owners(
    lake: Lake, day: dt.date, videos: Manifest, music: Manifest
) -> EarlierOwners:
    """Find the owners of the ids of a day's manifests among earlier days.

    Args:
        lake: with the catalogue.
        day: the landing day; only earlier days count.
        videos: its manifest of videos.
        music: its manifest of tracks.
    """
    video_ids = {str(row["video_id"]) for _, row in videos.rows}
    named = {str(row["music_id"]) for _, row in [*music.rows, *videos.rows] if row["music_id"]}
    return EarlierOwners(
        _owners(lake, "videos", "video_id", video_ids, day),
        _owners(lake, "music", "music_id", named, day),
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
