"""The owners of ids: earlier landing days, the earliest of several."""

from __future__ import annotations

import datetime as dt
from typing import Any

from pipeline.ingestion.id_owners import find_earlier_owners
from pipeline.ingestion.manifest import Manifest
from pipeline.lake.catalog import id_hash
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake

DAYS = [dt.date(2026, 3, day) for day in (1, 2, 3)]


def deliver(lake: Lake, day: dt.date, *names: str) -> None:
    row: dict[str, Any] = {
        "genre": "rock",
        "genre_group": "rock",
        "title": "t",
        "artist": "a",
        "content_hash": f"{day.day:064x}",
        "media_path": "a.ogg",
        "duration": 1.0,
        "dt": day,
        "ingested_at": dt.datetime(2026, 3, 9, tzinfo=dt.UTC),
    }
    frame = TABLES["music"].frame([{"music_id": name, **row} for name in names])
    lake.replace("music", frame, {"dt": day})


def manifest(*rows: dict[str, object]) -> Manifest:
    return Manifest(list(enumerate(rows, start=1)), [], "manifest.csv")


def test_the_earliest_of_the_earlier_days_owns_an_id(lake: Lake) -> None:
    for day, names in zip(DAYS, ("a", "ab", "abc"), strict=True):
        deliver(lake, day, *names)
    music = manifest(*({"music_id": name} for name in "abc"))
    found = find_earlier_owners(lake, DAYS[2], manifest(), music)
    assert found.music == {"a": (f"{1:064x}", DAYS[0]), "b": (f"{2:064x}", DAYS[1])}
    assert found.videos == {}


def test_tracks_that_videos_name_are_looked_up_too(lake: Lake) -> None:
    deliver(lake, DAYS[0], "a", "b")
    videos = manifest({"video_id": "v1", "music_id": "a"}, {"video_id": "v2", "music_id": None})
    found = find_earlier_owners(lake, DAYS[1], videos, manifest())
    assert set(found.music) == {"a"}


def test_a_deletion_does_not_change_the_digest_of_a_day_that_picked_the_track(lake: Lake) -> None:
    deliver(lake, DAYS[0], "a", "b")
    videos = manifest({"video_id": "v1", "music_id": "a"}, {"video_id": "v2", "music_id": "b"})
    before = find_earlier_owners(lake, DAYS[1], videos, manifest()).digest
    same = {"requested_at": dt.datetime(2026, 3, 9, tzinfo=dt.UTC), "dt": DAYS[1]}
    request = {"kind": "music", "id_hash": id_hash("music", "a")} | same
    lake.add("deletions", TABLES["deletions"].frame([request]))
    assert find_earlier_owners(lake, DAYS[1], videos, manifest()).digest == before
    deliver(lake, DAYS[0], "b")
    found = find_earlier_owners(lake, DAYS[1], videos, manifest())
    assert found.digest == before
    assert found.deleted == {"a"}
    # A track that is missing without a deletion is noticed.
    deliver(lake, DAYS[0], "c")
    assert find_earlier_owners(lake, DAYS[1], videos, manifest()).unknown_music == {"b"}


def test_the_digest_changes_with_the_owners(lake: Lake) -> None:
    music = manifest({"music_id": "a"})
    before = find_earlier_owners(lake, DAYS[1], manifest(), music).digest
    assert find_earlier_owners(lake, DAYS[1], manifest(), music).digest == before
    deliver(lake, DAYS[0], "a")
    assert find_earlier_owners(lake, DAYS[1], manifest(), music).digest != before
