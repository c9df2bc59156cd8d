"""Writes a small catalogue with features, without media files."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Any

import numpy as np

from pipeline.extraction.clips import Modality, extractors
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings

FIRST = dt.date(2026, 3, 1)
LAST = dt.date(2026, 3, 4)
# Track -> genre and genre group. m3 is delivered on the last day, the others on the first.
TRACKS = {"m0": "rock", "m1": "rock", "m2": "pop", "m3": "folk"}


def content(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def fill(settings: Settings, lake: Lake, picks: list[tuple[str, str, str, int]]) -> None:
    """Write the tracks, and videos given as (video, uploader, track, hour of upload)."""
    names = extractors(settings)
    rng = np.random.default_rng(0)
    base: dict[str, Any] = {"media_path": "x", "duration": 1.0, "dt": FIRST}
    now = dt.datetime(2026, 3, 5, tzinfo=dt.UTC)
    start = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    videos = [
        base
        | {
            "video_id": video,
            "uploader_id": uploader,
            "music_id": track,
            "source": "ugc",
            "uploaded_at": start + dt.timedelta(hours=hour),
            "dt": (start + dt.timedelta(hours=hour)).date(),
            "content_hash": content(video),
            "width": 2,
            "height": 2,
            "fps": 1.0,
            "ingested_at": now,
        }
        for video, uploader, track, hour in picks
    ]
    music = [
        base
        | {
            "music_id": track,
            "genre": group,
            "genre_group": group,
            "title": track,
            "artist": "x",
            "content_hash": content(track),
            "ingested_at": now,
            "dt": LAST if track == "m3" else FIRST,
        }
        for track, group in TRACKS.items()
    ]
    visual = [
        {
            "content_hash": content(row[0]),
            "segment": -1,
            "extractor": names[Modality.VISUAL],
            "embedding": rng.normal(size=6).tolist(),
            "frames": 1,
            "decoder": "pyav",
            "dt": FIRST,
        }
        for row in picks
    ]
    audio = [
        {
            "content_hash": content(track),
            "segment": -1,
            "extractor": names[Modality.AUDIO],
            "embedding": rng.normal(size=5).tolist(),
            "decoder": "pyav",
            "dt": FIRST,
        }
        for track in TRACKS
    ]
    for table, rows in (
        ("videos", videos),
        ("music", music),
        ("visual_features", visual),
        ("audio_features", audio),
    ):
        lake.replace(table, TABLES[table].frame(rows), {})
