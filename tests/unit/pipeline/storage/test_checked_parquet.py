"""Damage in a table's file fails every read of the damaged part, and names the file."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from pipeline.errors import ProvenanceError
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake

DAYS = [dt.date(2026, 3, day) for day in (1, 2)]
TABLE = "quarantine"


def rows(day: dt.date, ids: str, detail: str = "because") -> pl.DataFrame:
    return TABLES[TABLE].frame(
        [
            {
                "kind": "video",
                "id": name,
                "dt": day,
                "step": "ingest",
                "reason": "missing",
                "detail": detail,
                "content_hash": f"{ord(name):064x}",
                "attempts": 1,
            }
            for name in ids
        ]
    )


def files(lake: Lake) -> list[Path]:
    delta = lake.delta(TABLE)
    assert delta is not None
    return [Path(uri) for uri in delta.file_uris()]


def flip(path: Path, at: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << bit
    path.write_bytes(content)


def column(path: Path, name: str) -> range:
    """Positions of a column's bytes in the file."""
    chunks = pq.read_metadata(path).row_group(0)
    found = [chunks.column(number) for number in range(chunks.num_columns)]
    (chunk,) = [one for one in found if one.path_in_schema == name]
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    return range(start, start + chunk.total_compressed_size)


def write_in_every_way(lake: Lake) -> None:
    lake.replace(TABLE, rows(DAYS[0], "abc"), {"dt": DAYS[0], "step": "ingest"})
    assert_checksums(lake)
    lake.add(TABLE, rows(DAYS[0], "cd"))
    assert_checksums(lake)
    lake.upsert(TABLE, rows(DAYS[0], "de", "for another reason"))
    assert_checksums(lake)
    lake.clear_matching(TABLE, "content_hash", pl.DataFrame({"id": ["a"]}))
    assert_checksums(lake)
    lake.delete_matching(TABLE, pl.DataFrame({"id": ["b"]}))
    assert_checksums(lake)
    lake.delete(TABLE, "id = 'c'")
    assert_checksums(lake)
    lake.add(TABLE, rows(DAYS[0], "f"))
    lake.compact(TABLE)
    assert_checksums(lake)


def assert_checksums(lake: Lake) -> None:
    for path in files(lake):
        group = pq.read_metadata(path).row_group(0)
        chunks = [group.column(number) for number in range(group.num_columns)]
        assert {chunk.compression for chunk in chunks} == {"GZIP"}
        assert not any(chunk.is_stats_set for chunk in chunks)


def test_every_kind_of_write_makes_checksums(lake: Lake) -> None:
    write_in_every_way(lake)
    assert sorted(lake.read(TABLE)["id"]) == ["a", "d", "e", "f"]


def test_damage_fails_only_reads_of_the_damaged_part(lake: Lake) -> None:
    for day in DAYS:
        lake.replace(TABLE, rows(day, "abc"), {"dt": day, "step": "ingest"})
    (path,) = [path for path in files(lake) if f"dt={DAYS[1]}" in str(path)]
    flip(path, column(path, "detail")[-4])
    with pytest.raises(ProvenanceError, match=path.name):
        lake.read(TABLE)
    with pytest.raises(ProvenanceError, match=path.name):
        lake.read(TABLE, pl.col("detail") == "because")
    narrow = lake.collect(lake.scan(TABLE).select("id", "dt"), TABLE)
    assert len(narrow) == 6
    assert len(lake.read(TABLE, pl.col("dt") == DAYS[0])) == 3


def test_adding_rows_reads_only_keys(lake: Lake) -> None:
    """A commit of an extraction must not read the day's embeddings into memory."""
    lake.add(TABLE, rows(DAYS[0], "abc"))
    (path,) = files(lake)
    flip(path, column(path, "detail")[-4])
    assert lake.add(TABLE, rows(DAYS[0], "cd")) == 1
    with pytest.raises(ProvenanceError, match=path.name):
        lake.read(TABLE)


def test_a_merge_does_not_copy_damage(lake: Lake) -> None:
    lake.replace(TABLE, rows(DAYS[0], "abc"), {"dt": DAYS[0], "step": "ingest"})
    (path,) = files(lake)
    flip(path, column(path, "detail")[-4])
    with pytest.raises(ProvenanceError):
        lake.upsert(TABLE, rows(DAYS[0], "a", "for another reason"))


def test_a_footer_that_names_another_column_is_damaged(lake: Lake) -> None:
    lake.replace(TABLE, rows(DAYS[0], "abc"), {"dt": DAYS[0], "step": "ingest"})
    (path,) = files(lake)
    content = path.read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    # Without the check, a column that the file lacks would be read as nulls.
    flip(path, content.index(b"content_hash", footer))
    with pytest.raises(ProvenanceError, match=path.name):
        lake.read(TABLE)


def test_a_damaged_day_can_be_dropped_and_written_again(lake: Lake) -> None:
    """Follow docs/operate.md for a lake without a backup."""
    for day in DAYS:
        lake.replace(TABLE, rows(day, "abc"), {"dt": day, "step": "ingest"})
    (path,) = [path for path in files(lake) if f"dt={DAYS[1]}" in str(path)]
    path.write_bytes(path.read_bytes()[:100])
    lake.delete(TABLE, f"dt = '{DAYS[1]}'")
    assert len(lake.read(TABLE)) == 3
    lake.add(TABLE, rows(DAYS[1], "abc"))
    assert len(lake.read(TABLE)) == 6
