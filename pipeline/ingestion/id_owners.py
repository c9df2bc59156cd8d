"""What the days before a landing day decide about its rows: ids given away, tracks delivered."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from pipeline.ingestion.manifest import Manifest
from pipeline.lake.tables import Lake

# id -> (content hash, day) of the earliest day that delivered it.
Owners = dict[str, tuple[str, dt.date]]


@dataclass(frozen=True)
class EarlierOwners:
    """Owners of the ids that a day's manifests name, as far as earlier days own them.

    Attributes:
        videos: of the day's video ids.
        music: of the day's music ids, and of the tracks that its videos name.
    """

    videos: Owners
    music: Owners

    @property
    def digest(self) -> str:
        """Hash over both; when it changes, the day must be read again."""
        found = [sorted(owners.items()) for owners in (self.videos, self.music)]
        return hashlib.sha256(json.dumps(found, default=str).encode()).hexdigest()


def find_earlier_owners(
    lake: Lake, day: dt.date, videos: Manifest, music: Manifest
) -> EarlierOwners:
    """Find out what earlier days own of what a day's manifests name."""
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
