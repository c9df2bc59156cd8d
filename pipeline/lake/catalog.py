"""The catalogue as the steps read it: one row an id, whatever was delivered how often."""

from __future__ import annotations

import datetime as dt
import hashlib

import polars as pl

from pipeline.lake.tables import Lake


def videos(lake: Lake, until: dt.date) -> pl.LazyFrame:
    """Videos delivered up to the end of `until`, one row a video_id."""
    return _earliest(lake.scan("videos"), "video_id", until)


def music(lake: Lake, until: dt.date) -> pl.LazyFrame:
    """Tracks delivered up to the end of `until`, one row a music_id."""
    return _earliest(lake.scan("music"), "music_id", until)


def segments(lake: Lake, until: dt.date) -> pl.LazyFrame:
    """Segments of professional music videos delivered up to `until`, one row a segment_id."""
    return _earliest(lake.scan("segments"), "segment_id", until)


def _earliest(rows: pl.LazyFrame, key: str, until: dt.date) -> pl.LazyFrame:
    # Days may be ingested in any order (backfills): the earliest *day* owns the id, whichever
    # was read first, so that a backfill ends in the rows that the nights would have made.
    return rows.filter(pl.col("dt") <= until).filter(pl.col("dt") == pl.col("dt").min().over(key))


def id_hash(kind: str, name: str) -> str:
    """What the `deletions` table keeps of an id: sha256 of "kind:id", hex."""
    return hashlib.sha256(f"{kind}:{name}".encode()).hexdigest()
