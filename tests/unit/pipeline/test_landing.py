"""Manifests in three formats give the same rows and the same faults."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ManifestError
from pipeline.landing import LandingDay, landing_days

DAY = dt.date(2026, 3, 1)
ROWS: list[dict[str, Any]] = [
    {
        "music_id": "m1",
        "genre": "rock",
        "title": 'Comma, "quote" and\ttab',
        "artist": "北の風",
        "media_path": "media/a.ogg",
        "sha256": "AB" * 32,
    },
    {
        "music_id": "m2",
        "genre": "pop",
        "title": "ليلة",
        "artist": "x",
        "media_path": "media/b.ogg",
        "sha256": None,
    },
    {
        "music_id": "m3",
        "genre": None,
        "title": "t",
        "artist": "x",
        "media_path": "media/c.ogg",
        "sha256": None,
    },
]


def write(folder: Path, extension: str, rows: list[dict[str, Any]], platform: Any = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"music.{extension}"
    if extension == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif extension == "jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    else:
        platform.write(path, list(rows[0]), rows)


@pytest.mark.parametrize("extension", ["parquet", "csv", "jsonl"])
def test_formats_agree(tmp_path: Path, platform: Any, extension: str) -> None:
    write(tmp_path / f"dt={DAY}", extension, ROWS, platform)
    manifest = LandingDay(tmp_path, DAY).manifest("music")
    assert [number for number, _ in manifest.rows] == [1, 2]
    assert manifest.rows[0][1]["title"] == ROWS[0]["title"]
    assert manifest.rows[0][1]["sha256"] == "ab" * 32
    assert manifest.rows[1][1]["sha256"] is None
    (bad,) = manifest.bad
    assert bad.id == "m3"
    assert bad.detail == f"music.{extension} row 3, field genre: empty"


def test_parquet_times_and_text_types_are_checked(tmp_path: Path) -> None:
    folder = tmp_path / f"dt={DAY}"
    folder.mkdir()
    row = {"kind": "video", "id": 7, "requested_at": dt.datetime(2026, 3, 1, tzinfo=dt.UTC)}
    pq.write_table(pa.Table.from_pylist([row]), folder / "deletions.parquet")
    (bad,) = LandingDay(tmp_path, DAY).manifest("deletions").bad
    assert "field id: text expected, found int 7" in bad.detail


@pytest.mark.parametrize(
    ("line", "message"),
    [("{", "not valid JSON"), ("[1]", "not a JSON object"), ("[" * 100_000, "not valid JSON")],
)
def test_broken_json_line_is_one_bad_row(tmp_path: Path, line: str, message: str) -> None:
    folder = tmp_path / f"dt={DAY}"
    write(folder, "jsonl", ROWS[:1])
    with (folder / "music.jsonl").open("a") as stream:
        stream.write(line + "\n")
    manifest = LandingDay(tmp_path, DAY).manifest("music")
    assert len(manifest.rows) == 1
    assert manifest.bad[0].id == "music.jsonl:2"
    assert message in manifest.bad[0].detail


@pytest.mark.parametrize(
    ("name", "content"),
    [("music.parquet", b"not parquet"), ("music.csv", b"\xff\xfe\x00"), ("music.csv", b"")],
)
def test_unreadable_manifest_names_the_file(tmp_path: Path, name: str, content: bytes) -> None:
    folder = tmp_path / f"dt={DAY}"
    folder.mkdir()
    (folder / name).write_bytes(content)
    with pytest.raises(ManifestError, match=name):
        LandingDay(tmp_path, DAY).manifest("music")


@pytest.mark.parametrize("value", ["x" * 4097, "a\x00b", "line\nbreak", "\ud800"])
def test_hostile_ids_are_bad_rows(tmp_path: Path, value: str) -> None:
    folder = tmp_path / f"dt={DAY}"
    folder.mkdir()
    row = ROWS[0] | {"music_id": value}
    (folder / "music.jsonl").write_text(json.dumps(row) + "\n")
    manifest = LandingDay(tmp_path, DAY).manifest("music")
    assert not manifest.rows
    assert "field music_id" in manifest.bad[0].detail


@given(st.text(max_size=60))
def test_resolved_path_stays_inside_the_day(text: str) -> None:
    landing = LandingDay(Path("/landing"), DAY)
    path = landing.resolve(text)
    if path is not None:
        assert path.is_relative_to(landing.folder)
        assert ".." not in path.parts


def test_folder_that_is_not_a_day_is_named(tmp_path: Path) -> None:
    (tmp_path / "dt=tomorrow").mkdir()
    with pytest.raises(ManifestError, match="dt=tomorrow"):
        landing_days(tmp_path)
