"""Writes manifests in three formats and delivers rendered days to a landing folder."""

from __future__ import annotations

import csv
import datetime as dt
import filecmp
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.lake.schemas import LANDING
from simulation.plan import PlannedMusic, PlannedVideo

Row = dict[str, str | dt.datetime | None]

SUCCESS = "_SUCCESS"
# Folder of a rendered world beside its days: rows and files added to a day after its delivery.
LATE = "late"

_VIDEO_FORMATS = ("csv", "jsonl", "parquet")
_MUSIC_FORMATS = ("jsonl", "parquet", "csv")


def day_folder(root: Path, day: dt.date) -> Path:
    """Return the folder of a landing day."""
    return root / f"dt={day.isoformat()}"


def video_row(video: PlannedVideo, sha256: str | None) -> Row:
    """Return the row of a video in the manifest `videos`."""
    return {
        "video_id": video.video_id,
        "uploader_id": video.uploader_id,
        "music_id": video.music_id,
        "source": video.source,
        "uploaded_at": video.uploaded_at,
        "media_path": video.media_path,
        "sha256": sha256,
    }


def music_row(track: PlannedMusic, sha256: str | None) -> Row:
    """Return the row of a track in the manifest `music`."""
    return {
        "music_id": track.music_id,
        "genre": track.genre,
        "title": track.title,
        "artist": track.artist,
        "media_path": track.media_path,
        "sha256": sha256,
    }


def file_hash(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_manifests(
    folder: Path, day_number: int, videos: Sequence[Row], music: Sequence[Row]
) -> None:
    """Write the manifests `videos` and `music` of a day.

    Args:
        folder: folder of the day.
        day_number: 0 for the first day; selects the formats (CSV, JSON Lines, Parquet).
        videos: rows with the keys of `video_row`.
        music: rows with the keys of `music_row`.
    """
    _write(folder / f"videos.{_VIDEO_FORMATS[day_number % 3]}", videos)
    _write(folder / f"music.{_MUSIC_FORMATS[day_number % 3]}", music)


def deliver_day(rendered: Path, landing: Path, day: dt.date) -> Path:
    """Deliver one day of a rendered world: copy it to a temporary folder, then rename that.

    A day that was delivered already is not changed.

    Args:
        rendered: folder that `simulation.render.render_world` wrote.
        landing: landing folder of the pipeline; it is created if missing.
        day: the landing day.

    Returns:
        The folder of the day in `landing`.

    Raises:
        FileNotFoundError: the rendered world does not have this day.
    """
    target = day_folder(landing, day)
    if target.exists():
        return target
    landing.mkdir(parents=True, exist_ok=True)
    partial = landing / f".{target.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(day_folder(rendered, day), partial)
    partial.rename(target)
    return target


def deliver_late(rendered: Path, landing: Path) -> bool:
    """Add one more upload to the first day, after it was delivered.

    The media file is written first. The manifest is replaced last and atomically, so that a reader
    sees either the old or the new one. Other files do not change.

    Args:
        rendered: folder that `simulation.render.render_world` wrote.
        landing: landing folder of the pipeline, which has the first day.

    Returns:
        Whether a file was written.

    Raises:
        FileNotFoundError: the first day was not delivered yet.
    """
    source = next((rendered / LATE).iterdir())
    target = landing / source.name
    if not (target / SUCCESS).is_file():
        raise FileNotFoundError(f"{target} is not complete: deliver the day first")
    files = [path for path in source.rglob("*") if path.is_file()]
    changed = False
    for path in sorted(files, key=lambda path: path.parent == source):
        place = target / path.relative_to(source)
        if place.exists() and filecmp.cmp(path, place, shallow=False):
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f".{place.name}.partial")
        shutil.copyfile(path, partial)
        os.replace(partial, place)  # noqa: PTH105
        changed = True
    return changed


def _write(path: Path, rows: Sequence[Row]) -> None:
    columns = LANDING[f"landing_{path.stem}"].columns
    if path.suffix == ".parquet":
        kinds = {"uploaded_at": pa.timestamp("us", tz="UTC")}
        schema = pa.schema([(name, kinds.get(name, pa.string())) for name in columns])
        pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path)
        return
    texts = [{name: _text(row[name]) for name in columns} for row in rows]
    with path.open("w", encoding="utf-8", newline="") as stream:
        if path.suffix == ".jsonl":
            stream.writelines(json.dumps(text, ensure_ascii=False) + "\n" for text in texts)
        else:
            writer = csv.DictWriter(stream, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(texts)


def _text(value: str | dt.datetime | None) -> str | None:
    if isinstance(value, dt.datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value
