"""A tiny landing folder of real files, and a lake to read it into."""

from __future__ import annotations

import csv
import datetime as dt
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.lake import Lake
from pipeline.schemas import LANDING
from pipeline.settings import ExtractSettings, LakeSettings, LandingSettings, Settings
from pipeline.store import Store
from simulation.encode import SAMPLE_RATE, write_sound, write_video

DAY = dt.date(2026, 3, 1)
VIDEO_COLUMNS = [
    "video_id",
    "uploader_id",
    "music_id",
    "source",
    "uploaded_at",
    "media_path",
    "sha256",
]
MUSIC_COLUMNS = [field.name for field in LANDING["landing_music"].fields]
Row = dict[str, Any]


@dataclass
class Platform:
    """Somebody who delivers landing days."""

    root: Path
    media: Path

    def video(self, name: str, media: str = "red.mp4", **changes: Any) -> Row:
        row = {
            "video_id": name,
            "uploader_id": "u1",
            "music_id": "m1",
            "source": "ugc",
            "uploaded_at": "2026-03-01T10:00:00Z",
            "media_path": f"media/{media}",
            "sha256": "",
        }
        return row | changes

    def track(self, name: str, media: str = "low.ogg", **changes: Any) -> Row:
        row = {
            "music_id": name,
            "genre": "rock",
            "title": f"title of {name}",
            "artist": "somebody",
            "media_path": f"media/{media}",
            "sha256": "",
        }
        return row | changes

    def deliver(self, day: dt.date, videos: list[Row], music: list[Row]) -> Path:
        """Write a complete day; delivering it again replaces its manifests."""
        folder = self.root / f"dt={day}"
        shutil.copytree(self.media, folder / "media", dirs_exist_ok=True)
        self.write(folder / "videos.csv", VIDEO_COLUMNS, videos)
        self.write(folder / "music.csv", MUSIC_COLUMNS, music)
        (folder / "_SUCCESS").touch()
        return folder

    @staticmethod
    def write(path: Path, columns: list[str], rows: list[Row]) -> None:
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, columns)
            writer.writeheader()
            writer.writerows(rows)


@pytest.fixture(scope="session")
def tiny_media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures and two sounds of a second or so, and a music video of seven seconds."""
    folder = tmp_path_factory.mktemp("media")
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    for name, pitch in (("low.ogg", 220.0), ("high.mp3", 880.0)):
        tone = (0.3 * np.sin(2 * np.pi * pitch * time)).astype(np.float32)
        write_sound(folder / name, np.stack([tone, tone]))
    for name, colour, seconds in (
        ("red.mp4", (200, 30, 30), 1),
        ("blue.webm", (30, 30, 200), 1),
        ("music_video.mp4", (30, 200, 30), 7),
    ):
        frames = [np.full((48, 64, 3), colour, np.uint8) for _ in range(5 * seconds)]
        for number, frame in enumerate(frames):
            frame[:, number % 64] = 255
        write_video(folder / name, frames, 5, np.zeros((2, SAMPLE_RATE * seconds), np.float32))
    (folder / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    return folder


@pytest.fixture
def platform(tmp_path: Path, tiny_media: Path) -> Platform:
    return Platform(tmp_path / "landing", tiny_media)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        lake=LakeSettings(root=str(tmp_path / "lake")),
        landing=LandingSettings(root=tmp_path / "landing", reject_share=1.0),
        extract=ExtractSettings(workers=1),
    )


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake(settings.lake)


@pytest.fixture
def store(settings: Settings) -> Store:
    return Store(settings.lake)
