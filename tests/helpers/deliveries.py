"""Delivers landing days for tests: rows, manifests and small valid media files."""

from __future__ import annotations

import csv
import datetime as dt
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.lake.schemas import LANDING
from simulation.encode import SAMPLE_RATE, write_sound, write_video

Row = dict[str, Any]


def video(name: str, media: str = "red.mp4", **changes: Any) -> Row:
    """Return a row of videos.csv."""
    return {
        "video_id": name,
        "uploader_id": "u1",
        "music_id": "m1",
        "source": "ugc",
        "uploaded_at": "2026-03-01T10:00:00Z",
        "media_path": f"media/{media}",
        "sha256": "",
    } | changes


def track(name: str, media: str = "low.ogg", **changes: Any) -> Row:
    """Return a row of music.csv."""
    return {
        "music_id": name,
        "genre": "rock",
        "title": f"title of {name}",
        "artist": "somebody",
        "media_path": f"media/{media}",
        "sha256": "",
    } | changes


def write_manifest(path: Path, columns: list[str], rows: list[Row]) -> None:
    """Write a manifest as CSV."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)


def write_day(
    root: Path, day: dt.date, videos: list[Row], music: list[Row], media: Path | None = None
) -> Path:
    """Deliver a complete landing day with the files of a media folder; replace its manifests."""
    folder = root / f"dt={day}"
    (folder / "media").mkdir(parents=True, exist_ok=True)
    if media:
        shutil.copytree(media, folder / "media", dirs_exist_ok=True)
    for name, rows in (("videos", videos), ("music", music)):
        columns = list(LANDING[f"landing_{name}"].columns)
        write_manifest(folder / f"{name}.csv", columns, rows)
    (folder / "_SUCCESS").touch()
    return folder


def small_media(folder: Path) -> Path:
    """Write videos and tracks of one second, a music video of seven, and an invalid file."""
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    for name, pitch in (("low.ogg", 220.0), ("high.mp3", 880.0)):
        tone = (0.3 * np.sin(2 * np.pi * pitch * time)).astype(np.float32)
        write_sound(folder / name, np.stack([tone, tone]))
    for name, colour, seconds in (
        ("red.mp4", (200, 30, 30), 1),
        ("blue.webm", (30, 30, 200), 1),
        ("green.mp4", (30, 200, 30), 1),
        ("music_video.mp4", (200, 200, 30), 7),
    ):
        frames = [np.full((48, 64, 3), colour, np.uint8) for _ in range(5 * seconds)]
        for number, frame in enumerate(frames):
            frame[:, number % 64] = 255
        write_video(folder / name, frames, 5, np.zeros((2, SAMPLE_RATE * seconds), np.float32))
    (folder / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    return folder
