"""The catalogue: an id belongs to the earliest landing day that delivered it."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Any

import polars as pl
import pytest

from pipeline.lake import catalog
from pipeline.lake.codes import IdKind
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake

DAYS = [dt.date(2026, 3, day) for day in (1, 2, 3)]


def deliver(lake: Lake, day: dt.date, *names: str) -> None:
    """Write tracks of a day, whose title says which day it is."""
    row: dict[str, Any] = {
        "genre": "rock",
        "genre_group": "rock",
        "title": day.isoformat(),
        "artist": "a",
        "content_hash": "0" * 64,
        "media_path": "a.ogg",
        "duration": 1.0,
        "dt": day,
        "ingested_at": dt.datetime(2026, 3, 9, tzinfo=dt.UTC),
    }
    frame = TABLES["music"].frame([{"music_id": name, **row} for name in names])
    lake.replace("music", frame, {"dt": day})


@pytest.mark.parametrize("order", [DAYS, DAYS[::-1]])
def test_the_earliest_day_owns_an_id_in_any_order_of_ingest(
    lake: Lake, order: list[dt.date]
) -> None:
    names = {DAYS[0]: "a", DAYS[1]: "ab", DAYS[2]: "abc"}
    for day in order:
        deliver(lake, day, *names[day])
    found = lake.collect(catalog.music(lake, DAYS[1]), "music").sort("music_id")
    owners = [("a", DAYS[0].isoformat()), ("b", DAYS[1].isoformat())]
    assert found.select("music_id", "title").rows() == owners


def test_an_empty_lake_has_an_empty_catalogue(lake: Lake) -> None:
    for read, table in (
        (catalog.videos, "videos"),
        (catalog.music, "music"),
        (catalog.segments, "segments"),
    ):
        found = lake.collect(read(lake, DAYS[0]), table)
        assert isinstance(found, pl.DataFrame)
        assert found.is_empty()


def test_the_hash_of_an_id_depends_on_its_kind() -> None:
    assert catalog.id_hash(IdKind.VIDEO, "a") == hashlib.sha256(b"video:a").hexdigest()
    assert catalog.id_hash("uploader", "a") != catalog.id_hash("video", "a")
