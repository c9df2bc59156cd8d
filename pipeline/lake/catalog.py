"""Reads the catalogue: one row per id, however often the id was delivered."""

from __future__ import annotations

import datetime as dt
import hashlib

import polars as pl

from pipeline.lake.tables import Lake


def videos(lake: Lake, until: dt.date) -> pl.LazyFrame:
    """Return the videos of the landing days up to `until`, one row per video_id."""
    return _earliest(lake.scan("videos"), "video_id", until)


def music(lake: Lake, until: dt.date) -> pl.LazyFrame:
    """Return the tracks of the landing days up to `until`, one row per music_id."""
    return _earliest(lake.scan("music"), "music_id", until)


def segments(lake: Lake, until: dt.date) -> pl.LazyFrame:
    """Return the segments of the landing days up to `until`, one row per segment_id."""
    return _earliest(lake.scan("segments"), "segment_id", until)


def _earliest(rows: pl.LazyFrame, key: str, until: dt.date) -> pl.LazyFrame:
    # The earliest landing day owns an id, in whatever order the days were ingested. So a backfill
    # results in the same rows as the nightly runs would.
    return rows.filter(pl.col("dt") <= until).filter(pl.col("dt") == pl.col("dt").min().over(key))


def id_hash(kind: str, name: str) -> str:
    """Return the hash that the table `deletions` keeps instead of an id.

    Args:
        kind: a value of `IdKind`.
        name: the id.

    Returns:
        The sha256 of "kind:id", in hex.
    """
    return hashlib.sha256(f"{kind}:{name}".encode()).hexdigest()
