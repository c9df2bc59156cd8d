"""Landing days to extract: one of real files, and one of rows of the catalogue only."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.context import Context
from pipeline.extraction import extract, shards
from pipeline.extraction.extract import ShardSummary
from pipeline.ingestion import ingest
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings

DAY = dt.date(2026, 3, 1)


@pytest.fixture
def one_day(settings: Settings, platform: Any) -> Any:
    """Ingest a day with two videos (one of them twice), a music video and two tracks."""
    videos = [
        platform.video("v1"),
        platform.video("copy of v1"),
        platform.video("v2", "blue.webm"),
        platform.video("p1", "music_video.mp4", source="pgc", uploader_id="", music_id=""),
    ]
    platform.deliver(DAY, videos, [platform.track("m1"), platform.track("m2", "high.mp3")])
    ingest.run(Context(settings), DAY)
    return platform


@pytest.fixture
def extract_day(settings: Settings) -> Callable[[dt.date], list[ShardSummary]]:
    """Plan a day and extract its shards, as media_features does."""

    def extract_all(day: dt.date) -> list[ShardSummary]:
        context = Context(settings)
        return [extract.run(context, s.plan, s.shard) for s in shards.plan(context, [day])]

    return extract_all


@pytest.fixture
def mark_ingested(lake: Lake) -> Callable[[], None]:
    """Write that the day is ingested now, as a delivery of it would."""

    def mark() -> None:
        now = dt.datetime.now(dt.UTC)
        counts = {"rows": 5, "accepted": 5, "rejected": 0}
        row = {"dt": DAY, "fingerprint": "f", "finished_at": now} | counts
        lake.replace("landing_days", TABLES["landing_days"].frame([row]), {"dt": DAY})

    return mark


@pytest.fixture
def catalogue(lake: Lake, mark_ingested: Callable[[], None]) -> None:
    """Write five rows without files: v1 and v2 share one; p1 and m1 share one; m0 has its own."""
    now = dt.datetime.now(dt.UTC)
    common = {"dt": DAY, "duration": 2.0, "ingested_at": now}
    film = common | {"uploader_id": "u", "uploaded_at": now, "width": 64, "height": 48, "fps": 25.0}
    ugc = film | {"source": "ugc", "music_id": "m0", "content_hash": "a", "media_path": "a.mp4"}
    pgc = film | {"source": "pgc", "music_id": None, "content_hash": "b", "media_path": "b.mp4"}
    track = common | {"genre": "pop", "genre_group": "pop", "title": "t", "artist": "a"}
    videos = [ugc | {"video_id": "v1"}, ugc | {"video_id": "v2"}, pgc | {"video_id": "p1"}]
    music = [
        track | {"music_id": "m0", "content_hash": "c", "media_path": "c.mp3"},
        track | {"music_id": "m1", "content_hash": "b", "media_path": "b.mp4"},
    ]
    segment = {"segment_id": "p1#0", "video_id": "p1", "content_hash": "b", "segment": 0, "dt": DAY}
    lake.add("videos", TABLES["videos"].frame(videos))
    lake.add("music", TABLES["music"].frame(music))
    lake.add("segments", TABLES["segments"].frame([segment | {"start": 0.0, "end": 2.0}]))
    mark_ingested()
