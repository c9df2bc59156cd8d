"""Manifests in three formats give the same rows and errors; a bad row does not affect others."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import ManifestError
from pipeline.ingestion.landing_day import LandingDay

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
def test_all_formats_give_the_same_rows(tmp_path: Path, platform: Any, extension: str) -> None:
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
def test_an_invalid_json_line_is_one_bad_row(tmp_path: Path, line: str, message: str) -> None:
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
def test_an_unreadable_manifest_is_named(tmp_path: Path, name: str, content: bytes) -> None:
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


HEADER = b"music_id,genre,title,artist,media_path,sha256\n"
GOOD = b"m1,rock,t,a,a.ogg,\n"


def read(tmp_path: Path, name: str, content: bytes | pa.Table) -> Any:
    """The manifest of a day that holds one file."""
    folder = tmp_path / f"dt={DAY}"
    folder.mkdir(exist_ok=True)
    if isinstance(content, bytes):
        (folder / name).write_bytes(content)
    else:
        pq.write_table(content, folder / name)
    return LandingDay(tmp_path, DAY).manifest(name.partition(".")[0])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'm2,rock,"never closed,a,a.ogg,\n', "row 2: not valid CSV"),
        (b'm2,rock,"closed"early,a,a.ogg,\n', "row 2: not valid CSV"),
        (b"m2,rock,caf\xe9,a,a.ogg,\n", "row 2, field title: not UTF-8: 'caf\\udce9'"),
        (b"m2,ro\0ck,t,a,a.ogg,\n", "row 2, field genre: control characters"),
        (b"m2,rock," + b"x" * 200_000 + b",a,a.ogg,\n", "row 2: not valid CSV: field larger"),
        (b"m2,rock," + b"x" * 3_000_000 + b",a,a.ogg,\n", "row 2: a line of 1048576 characters"),
        (b"m2,roc\n", "row 2: 2 cells under 6 columns"),
    ],
)
def test_a_bad_line_of_csv_does_not_affect_other_rows(
    tmp_path: Path, line: bytes, message: str
) -> None:
    manifest = read(tmp_path, "music.csv", HEADER + GOOD + line + GOOD.replace(b"m1", b"m3"))
    assert [(number, row["music_id"]) for number, row in manifest.rows] == [(1, "m1"), (3, "m3")]
    (bad,) = manifest.bad
    assert f"music.csv {message}" in bad.detail


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + HEADER + GOOD,
        (HEADER + GOOD).replace(b"\n", b"\r\n") + b"\r\n",
        HEADER + GOOD.rstrip(),
        HEADER + b"\n" + GOOD + b"\n",
    ],
)
def test_byte_order_marks_and_other_line_ends_are_accepted(tmp_path: Path, content: bytes) -> None:
    manifest = read(tmp_path, "music.csv", content)
    assert [row["music_id"] for _, row in manifest.rows] == ["m1"]
    assert not manifest.bad


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            HEADER.replace(b"title", b"genre") + GOOD,
            "missing columns 'title', duplicate columns 'genre'",
        ),
        (HEADER.replace(b"title", b"Title") + GOOD, "unknown columns 'Title'; write .* lower case"),
        (HEADER.upper() + GOOD, "unknown columns 'ARTIST', .* lower case"),
        (HEADER.replace(b",", b", ") + GOOD, "unknown columns ' artist', .*without spaces"),
        (HEADER.replace(b",", b";") + GOOD, "separated by ';'; separate them by commas"),
        (HEADER.replace(b",", b"\t") + GOOD, "separated by tabs; separate them by commas"),
        (b"sep=,\n" + HEADER + GOOD, "`sep=` line for Excel; remove it"),
        ((HEADER + GOOD).decode().encode("utf-16"), "is UTF-16; write it as UTF-8"),
        ((HEADER + GOOD).decode().encode("utf-16-be"), "is UTF-16; write it as UTF-8"),
        (gzip.compress(HEADER + GOOD, mtime=0), "compressed with gzip; deliver it uncompressed"),
        (b'"' + HEADER + GOOD, "cannot be read"),
        (GOOD, "first line is not a header"),
        (b"x" * 3_000_000, "first line is a line of 1048576 characters or more"),
        (b"\n" + HEADER + GOOD, "first line is blank"),
        (b"", "file is empty; it needs a header"),
    ],
)
def test_a_csv_with_a_wrong_header_is_an_error(
    tmp_path: Path, content: bytes, message: str
) -> None:
    with pytest.raises(ManifestError, match=rf"{message}.*music\.csv\)"):
        read(tmp_path, "music.csv", content)


def test_parquet_with_columns_in_upper_case_is_an_error_that_names_them(tmp_path: Path) -> None:
    """Fault 27."""
    table = pa.Table.from_pylist(ROWS[:2])
    upper = table.rename_columns([name.upper() for name in table.column_names])
    with pytest.raises(ManifestError, match=r"unknown columns 'ARTIST', .*; write .* lower case"):
        read(tmp_path, "music.parquet", upper)
    other = table.rename_columns([f"c{number}" for number in range(len(table.column_names))])
    with pytest.raises(ManifestError, match=r"Wrong columns: expected music_id"):
        read(tmp_path, "music.parquet", other)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("music.jsonl", json.dumps(ROWS[0]).encode("utf-16"), "UTF-16; write it as UTF-8"),
        ("music.jsonl", gzip.compress(b"{}", mtime=0), "compressed with gzip"),
        ("music.parquet", gzip.compress(b"PAR1", mtime=0), "compressed with gzip"),
        ("music.parquet", HEADER + GOOD, "not Parquet: it does not begin with PAR1"),
    ],
)
def test_a_manifest_in_another_format_is_an_error_that_says_so(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    """Fault 27."""
    with pytest.raises(ManifestError, match=f"The file is {message}"):
        read(tmp_path, name, content)


def test_a_row_in_place_of_the_header_is_not_repeated_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as raised:
        # The title and the artist of this row are names of columns.
        read(tmp_path, "music.csv", b"somebody's-id,rock,title,Artist,a.ogg,\n")
    assert "first line is not a header" in str(raised.value)
    assert "somebody's-id" not in str(raised.value)


def test_a_bad_line_of_json_does_not_affect_other_rows(tmp_path: Path) -> None:
    good = json.dumps(ROWS[0]).encode()
    lines = [
        b"\xef\xbb\xbf" + good,
        good.replace(b"rock", b"caf\xe9"),
        good.replace(b"{", b'{"music_id": "m7", '),
        good.replace(b"{", b'{"colour": "red", '),
        b"x" * 3_000_000,
        good + b"\r",
        good[:30],
    ]
    manifest = read(tmp_path, "music.jsonl", b"\n".join(lines))
    assert [number for number, _ in manifest.rows] == [1, 6]
    expected = [
        "row 2, field genre: not UTF-8: 'caf\\udce9'",
        "row 3: not valid JSON: duplicate members 'music_id'",
        "row 4, unknown fields 'colour'",
        "row 5: a line of 1048576 characters",
        "row 7: not valid JSON",
    ]
    found = zip(expected, (bad.detail for bad in manifest.bad), strict=True)
    assert [bad for wanted, bad in found if not bad.startswith(f"music.jsonl {wanted}")] == []


def test_parquet_with_a_duplicate_column_or_cut_short_is_an_error(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([ROWS[0]])
    with pytest.raises(ManifestError, match=r"duplicate columns 'genre' .*music\.parquet"):
        read(tmp_path, "music.parquet", table.append_column("genre", table["genre"]))
    whole = tmp_path / "whole.parquet"
    pq.write_table(table, whole)
    for content in (whole.read_bytes()[:-100], b""):
        with pytest.raises(
            ManifestError, match=r"(cannot be read|Reading failed): .*music\.parquet\)"
        ):
            read(tmp_path, "music.parquet", content)


def test_parquet_text_that_is_not_utf8_is_a_bad_row(tmp_path: Path) -> None:
    offsets, text = np.array([0, 2, 6], np.int32), b"okcaf\xe9"
    titles = pa.StringArray.from_buffers(2, pa.py_buffer(offsets), pa.py_buffer(text))
    table = pa.Table.from_pylist([ROWS[0], ROWS[1]])
    manifest = read(tmp_path, "music.parquet", table.set_column(2, "title", titles))
    assert [row["title"] for _, row in manifest.rows] == ["ok"]
    assert "row 2, field title: string that cannot be read" in manifest.bad[0].detail


@pytest.mark.parametrize(
    ("times", "good"),
    [
        (pa.array([1772323200 * 10**9 + 1, None], pa.timestamp("ns", "UTC")), 1),
        (pa.array([1772323200 * 10**6, 2**62, -(2**62)], pa.timestamp("us", "UTC")), 1),
        (pa.array([1772323200], pa.timestamp("s", "Nowhere/Atlantis")), 0),
        (pa.array([1772323200], pa.timestamp("s")), 0),
        (pa.array([1772323200]), 0),
    ],
)
def test_an_invalid_parquet_time_is_a_bad_row(tmp_path: Path, times: pa.Array, good: int) -> None:
    columns = {"kind": ["video"] * len(times), "id": ["v1"] * len(times), "requested_at": times}
    manifest = read(tmp_path, "deletions.parquet", pa.table(columns))
    when = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    assert [row["requested_at"] for _, row in manifest.rows] == [when] * good
    assert len(manifest.bad) == len(times) - good
    assert all("field requested_at: " in bad.detail for bad in manifest.bad)


def test_times_may_end_in_a_lower_case_z(tmp_path: Path) -> None:
    """Fault 27."""
    row = {"kind": "video", "id": "v1", "requested_at": "2026-03-01t10:00:00.5z"}
    manifest = read(tmp_path, "deletions.jsonl", json.dumps(row).encode())
    when = dt.datetime(2026, 3, 1, 10, 0, 0, 500_000, dt.UTC)
    assert [row["requested_at"] for _, row in manifest.rows] == [when]


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_a_time_out_of_range_in_utc_is_a_bad_row(tmp_path: Path, time: str) -> None:
    row = {"kind": "video", "id": "v1", "requested_at": time}
    manifest = read(tmp_path, "deletions.jsonl", json.dumps(row).encode())
    assert "field requested_at: outside the years 1 to 9999" in manifest.bad[0].detail


def test_a_manifest_that_is_not_a_regular_file_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / f"dt={DAY}"
    folder.mkdir()
    (folder / "music.csv").symlink_to(folder / "nowhere")
    with pytest.raises(ManifestError, match=r"is a symbolic link .*music\.csv"):
        LandingDay(tmp_path, DAY).manifest("music")
    os.mkfifo(folder / "videos.csv")
    with pytest.raises(ManifestError, match=r"is not a regular file .*videos\.csv"):
        LandingDay(tmp_path, DAY).manifest("videos")
