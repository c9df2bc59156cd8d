"""A day is ingested after deletions: no erased id comes back, and no day is read again for them."""

from __future__ import annotations

import datetime as dt
from typing import Any

from pipeline.context import Context
from pipeline.ingestion import ingest
from pipeline.ingestion.delivery import unfinished_days
from pipeline.lake.catalog import id_hash
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings
from pipeline.settings.sections import LandingSettings
from pipeline.upkeep import erasure

DAY = dt.date(2026, 3, 1)
NEXT_DAY = dt.date(2026, 3, 2)


def request(lake: Lake, *ids: tuple[str, str]) -> None:
    same = {"requested_at": dt.datetime(2026, 3, 3, tzinfo=dt.UTC), "dt": NEXT_DAY}
    rows = [{"kind": kind, "id_hash": id_hash(kind, name)} | same for kind, name in ids]
    lake.add("deletions", TABLES["deletions"].frame(rows))


def strict(settings: Settings) -> Settings:
    landing = LandingSettings(root=settings.landing.root, reject_share=0.0)
    return settings.model_copy(update={"landing": landing})


def test_a_day_that_picked_an_erased_track_is_not_read_again(
    settings: Settings, lake: Lake, platform: Any, account: Any
) -> None:
    platform.deliver(DAY, [], [platform.track("song1"), platform.track("song2", "high.mp3")])
    platform.deliver(NEXT_DAY, [platform.video("v1", music_id="song1")], [])
    for day in (DAY, NEXT_DAY):
        ingest.run(Context(settings), day)
        account(day)
    assert not unfinished_days(Context(settings), DAY, NEXT_DAY)
    request(lake, ("music", "song1"))
    assert not unfinished_days(Context(settings), DAY, NEXT_DAY)
    erasure.run(Context(settings))
    assert not unfinished_days(Context(settings), DAY, NEXT_DAY)


def test_a_pick_of_an_erased_track_is_accepted_without_the_track(
    settings: Settings, lake: Lake, platform: Any
) -> None:
    settings = strict(settings)
    platform.deliver(DAY, [], [platform.track("song1")])
    first = platform.video("v1", music_id="song1")
    platform.deliver(NEXT_DAY, [first], [])
    for day in (DAY, NEXT_DAY):
        ingest.run(Context(settings), day)
    request(lake, ("music", "song1"))
    erasure.run(Context(settings))
    second = platform.video("v2", "blue.webm", music_id="song1")
    platform.deliver(NEXT_DAY, [first, second], [])
    summary = ingest.run(Context(settings), NEXT_DAY)
    assert (summary.accepted, summary.rejected) == (2, {})
    assert lake.read("videos").select("video_id", "music_id").sort("video_id").rows() == [
        ("v1", None),
        ("v2", None),
    ]
    assert lake.read("quarantine").is_empty()


def test_a_late_track_is_still_a_reason_to_read_its_day_again(
    settings: Settings, lake: Lake, platform: Any, account: Any
) -> None:
    platform.deliver(NEXT_DAY, [platform.video("v1", music_id="song1")], [])
    assert ingest.run(Context(settings), NEXT_DAY).rejected == {"unknown_music": 1}
    account(NEXT_DAY)
    platform.deliver(DAY, [], [platform.track("song1")])
    ingest.run(Context(settings), DAY)
    assert list(unfinished_days(Context(settings), NEXT_DAY, NEXT_DAY)) == [NEXT_DAY]


def test_no_rejected_row_has_a_deleted_id(settings: Settings, lake: Lake, platform: Any) -> None:
    request(lake, ("video", "gone1"), ("uploader", "gone2"), ("music", "gone3"))
    videos = [
        platform.video("gone1", uploaded_at="never"),
        platform.video("gone1"),
        platform.video("gone1"),
        platform.video("v1", uploader_id="gone2", source="?"),
    ]
    tracks = [platform.track("m1"), platform.track("gone3", genre="")]
    folder = platform.deliver(DAY, videos, tracks)
    (folder / "deletions.csv").write_text("kind,id,requested_at\nuploader,gone2,never\n")
    # The request is at fault; the rows are not.
    assert ingest.run(Context(settings), DAY).rejected == {"deleted": 5, "invalid_field": 1}
    everything = lake.read("quarantine").write_json()
    assert "gone" not in everything
    assert "v1" not in everything
    # Ids that got into another field are in a message.
    shifted = platform.video("v2", source="gone2", uploaded_at="gone1")
    platform.deliver(NEXT_DAY, [shifted, platform.video("v3", music_id="unknown")], [])
    rejected = ingest.run(Context(settings), NEXT_DAY).rejected
    assert rejected == {"invalid_field": 1, "unknown_music": 1}
    assert "gone" not in lake.read("quarantine").write_json()
