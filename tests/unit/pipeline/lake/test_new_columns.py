"""A table that was created without a nullable column is read and written with it."""

from __future__ import annotations

import dataclasses
import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from pipeline.errors import ProvenanceError
from pipeline.lake.new_columns import add_new_columns
from pipeline.lake.schemas import TABLES
from pipeline.lake.table_spec import Field, Table
from pipeline.lake.tables import Lake

TABLE = "refused_days"
DAYS = [dt.date(2026, 3, day) for day in (1, 2, 3)]
OLDER = TABLES[TABLE]
NOTE = Field("note", pa.string(), "a note", nullable=True)


def with_field(field: Field) -> Table:
    # In the middle of columns of its own type: the log has it at the end.
    at = OLDER.columns.index("reason")
    return dataclasses.replace(OLDER, fields=(*OLDER.fields[:at], field, *OLDER.fields[at:]))


def rows(day: dt.date, reason: str, **new: object) -> pl.DataFrame:
    row = {
        "dt": day,
        "fingerprint": "f",
        "step": "ingest",
        "reason": reason,
        "detail": "d",
        "finished_at": dt.datetime(2026, 3, 4, tzinfo=dt.UTC),
    }
    return TABLES[TABLE].frame([{**row, **new}])


def read(lake: Lake) -> list[tuple[object, ...]]:
    return lake.read(TABLE).sort("dt").select("dt", "reason", "note", "detail").rows()


def columns_in_log(lake: Lake) -> list[str]:
    delta = lake.delta(TABLE)
    assert delta is not None
    return [field.name for field in delta.schema().fields]


@pytest.fixture
def old_lake(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Lake:
    for day in DAYS[:2]:
        lake.add(TABLE, rows(day, "old"))
    monkeypatch.setitem(TABLES, TABLE, with_field(NOTE))
    return lake


def test_old_files_read_as_null(old_lake: Lake) -> None:
    assert read(old_lake) == [(day, "old", None, "d") for day in DAYS[:2]]
    assert old_lake.read(TABLE, pl.col("note") == "x").is_empty()
    assert len(old_lake.read(TABLE, pl.col("note").is_null())) == 2
    # A read does not change the table.
    assert "note" not in columns_in_log(old_lake)


@pytest.mark.parametrize("write", ["replace", "add", "upsert"])
def test_every_write_adds_the_column_once(old_lake: Lake, write: str) -> None:
    for day, note in ((DAYS[1], "x"), (DAYS[2], "y"), (DAYS[2], "z")):
        new = rows(day, "new", note=note)
        if write == "replace":
            old_lake.replace(TABLE, new, {"dt": day})
        else:
            getattr(old_lake, write)(TABLE, new)
        assert columns_in_log(old_lake) == [*OLDER.columns, "note"]
    assert read(old_lake) == [
        (DAYS[0], "old", None, "d"),
        (DAYS[1], "old", None, "d") if write == "add" else (DAYS[1], "new", "x", "d"),
        (DAYS[2], "new", "y" if write == "add" else "z", "d"),
    ]


def test_rows_of_old_files_survive_an_upsert_beside_them(lake: Lake, monkeypatch) -> None:
    # One partition-less table, so that the merge rewrites the old file.
    older = dataclasses.replace(OLDER, partition_by=())
    monkeypatch.setitem(TABLES, TABLE, older)
    lake.add(TABLE, pl.concat([rows(DAYS[0], "old"), rows(DAYS[1], "old")]))
    monkeypatch.setitem(TABLES, TABLE, dataclasses.replace(with_field(NOTE), partition_by=()))
    lake.upsert(TABLE, rows(DAYS[1], "new", note="x"))
    assert read(lake) == [(DAYS[0], "old", None, "d"), (DAYS[1], "new", "x", "d")]


def test_old_files_are_compacted_and_deleted(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    older = dataclasses.replace(OLDER, partition_by=())
    monkeypatch.setitem(TABLES, TABLE, older)
    for day in DAYS:
        lake.add(TABLE, rows(day, "old"))
    monkeypatch.setitem(TABLES, TABLE, dataclasses.replace(with_field(NOTE), partition_by=()))
    assert lake.compact(TABLE) == (3, 1)
    assert lake.delete(TABLE, f"dt = '{DAYS[0]}'") == 1
    assert lake.delete(TABLE, "note = 'x'") == 0
    assert lake.delete_matching(TABLE, pl.DataFrame({"note": ["x"]})) == 0
    assert read(lake) == [(day, "old", None, "d") for day in DAYS[1:]]
    lake.add(TABLE, rows(DAYS[0], "new", note="x"))
    assert lake.compact(TABLE) == (2, 1)
    assert lake.clear_matching(TABLE, "note", pl.DataFrame({"note": ["x"]})) == 1
    assert lake.delete_matching(TABLE, pl.DataFrame({"reason": ["new"]})) == 1
    assert read(lake) == [(day, "old", None, "d") for day in DAYS[1:]]


def test_concurrent_first_writers_add_the_column_and_every_row(old_lake: Lake) -> None:
    days = [dt.date(2026, 4, day) for day in range(1, 7)]
    with ThreadPoolExecutor(len(days)) as pool:
        list(pool.map(lambda day: old_lake.add(TABLE, rows(day, "new", note="x")), days))
    expected = [(day, "old", None, "d") for day in DAYS[:2]]
    assert read(old_lake) == expected + [(day, "new", "x", "d") for day in days]
    assert columns_in_log(old_lake) == [*OLDER.columns, "note"]


def test_nothing_is_committed_without_new_columns(old_lake: Lake) -> None:
    old_lake.add(TABLE, rows(DAYS[2], "new", note="x"))
    delta = old_lake.delta(TABLE)
    assert delta is not None
    before = delta.version()
    add_new_columns(delta, TABLES[TABLE])
    assert old_lake.version(TABLE) == before


@pytest.mark.parametrize(
    "newer",
    [
        with_field(dataclasses.replace(NOTE, nullable=False)),
        dataclasses.replace(OLDER, fields=OLDER.fields[:-1]),
        dataclasses.replace(
            OLDER, fields=(*OLDER.fields[:-1], Field("finished_at", pa.string(), "a time"))
        ),
    ],
    ids=["missing and not nullable", "unknown", "another type"],
)
def test_any_other_difference_is_damage(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, newer: Table
) -> None:
    lake.add(TABLE, rows(DAYS[0], "old"))
    monkeypatch.setitem(TABLES, TABLE, newer)
    with pytest.raises(ProvenanceError, match="footer has columns") as error:
        lake.read(TABLE)
    assert ".parquet" in error.value.where


def test_no_flipped_bit_of_a_footer_turns_the_column_into_nulls(old_lake: Lake) -> None:
    day = DAYS[2]
    old_lake.add(TABLE, rows(day, "new", note="x"))
    delta = old_lake.delta(TABLE)
    assert delta is not None
    (path,) = [Path(uri) for uri in delta.file_uris() if f"dt={day}" in uri]
    whole = path.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    noticed = 0
    # Each byte once, with every bit in turn: all bits of all bytes would take minutes.
    for at in range(footer, len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        try:
            assert old_lake.read(TABLE, pl.col("dt") == day)["note"].to_list() == ["x"], at
        except ProvenanceError:
            noticed += 1
    assert noticed > 100
