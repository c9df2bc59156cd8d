"""Landing days on disk: manifests in three formats, and their delivery one by one."""

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
LATE = "late"
"""Folder of a rendered world, beside its days, that holds what is delivered after the fact."""

_VIDEO_FORMATS = ("csv", "jsonl", "parquet")
_MUSIC_FORMATS = ("jsonl", "parquet", "csv")


def day_folder(root: Path, day: dt.date) -> Path:
    """The folder of a landing day."""
    return root / f"dt={day.isoformat()}"


def video_row(video: PlannedVideo, sha256: str | None) -> Row:
    """The row of `videos.*` for a video."""
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
    """The row of `music.*` for a track."""
    return {
        "music_id": track.music_id,
        "genre": track.genre,
        "title": track.title,
        "artist": track.artist,
        "media_path": track.media_path,
        "sha256": sha256,
    }


def file_hash(path: Path) -> str:
    """The sha256 of a file in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_manifests(
    folder: Path, day_number: int, videos: Sequence[Row], music: Sequence[Row]
) -> None:
    """Writes `videos.*` and `music.*` of a day; the format changes from day to day.

    Args:
        folder: the day's folder.
        day_number: 0 for the first day.
        videos: rows with the keys of `video_row`.
        music: rows with the keys of `music_row`.
    """
    _write(folder / f"videos.{_VIDEO_FORMATS[day_number % 3]}", videos)
    _write(folder / f"music.{_MUSIC_FORMATS[day_number % 3]}", music)


def deliver_day(rendered: Path, landing: Path, day: dt.date) -> Path:
    """Delivers one day of a rendered world: copied aside, then renamed into place.

    A day that is there already is left as it is.

    Args:
        rendered: folder that `simulation.render.render_world` wrote.
        landing: landing folder of the pipeline; made where it is missing.
        day: which day.

    Returns:
        The day's folder in landing.

    Raises:
        FileNotFoundError: the rendered world has no such day.
    """
    target = day_folder(landing, day)
    if target.exists():
        return target
    landing.mkdir(parents=True, exist_ok=True)
    aside = landing / f".{target.name}.partial"
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(day_folder(rendered, day), aside)
    aside.rename(target)
    return target


def deliver_late(rendered: Path, landing: Path) -> bool:
    """Changes a delivered day after the fact: one more upload of the first day.

    The file comes first and the manifest last, by a rename, so that a reader in between
    sees the old manifest or the new one, whole. What was delivered before stays untouched.

    Args:
        rendered: folder that `simulation.render.render_world` wrote.
        landing: landing folder of the pipeline, in which the day was delivered.

    Returns:
        Whether anything in it was new.

    Raises:
        FileNotFoundError: the day was not delivered yet.
    """
    source = next((rendered / LATE).iterdir())
    target = landing / source.name
    if not (target / SUCCESS).is_file():
        raise FileNotFoundError(f"{target} was not delivered yet: deliver the day first")
    files = [path for path in source.rglob("*") if path.is_file()]
    new = False
    for path in sorted(files, key=lambda path: path.parent == source):
        place = target / path.relative_to(source)
        if place.exists() and filecmp.cmp(path, place, shallow=False):
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        aside = place.with_name(f".{place.name}.partial")
        shutil.copyfile(path, aside)
        os.replace(aside, place)  # noqa: PTH105
        new = True
    return new


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
