"""A bit that turns over in a table's file is named by every read that would use it."""

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
    """Where a column's bytes lie."""
    chunks = pq.read_metadata(path).row_group(0)
    found = [chunks.column(number) for number in range(chunks.num_columns)]
    (chunk,) = [one for one in found if one.path_in_schema == name]
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    return range(start, start + chunk.total_compressed_size)


def every_way_of_writing(lake: Lake) -> None:
    lake.replace(TABLE, rows(DAYS[0], "abc"), {"dt": DAYS[0], "step": "ingest"})
    checksummed(lake)
    lake.add(TABLE, rows(DAYS[0], "cd"))
    checksummed(lake)
    lake.upsert(TABLE, rows(DAYS[0], "de", "for another reason"))
    checksummed(lake)
    lake.clear_matching(TABLE, "content_hash", pl.DataFrame({"id": ["a"]}))
    checksummed(lake)
    lake.delete_matching(TABLE, pl.DataFrame({"id": ["b"]}))
    checksummed(lake)
    lake.delete(TABLE, "id = 'c'")
    checksummed(lake)
    lake.add(TABLE, rows(DAYS[0], "f"))
    lake.compact(TABLE)
    checksummed(lake)


def checksummed(lake: Lake) -> None:
    for path in files(lake):
        group = pq.read_metadata(path).row_group(0)
        chunks = [group.column(number) for number in range(group.num_columns)]
        assert {chunk.compression for chunk in chunks} == {"GZIP"}
        assert not any(chunk.is_stats_set for chunk in chunks)


def test_every_way_of_writing_leaves_checksums(lake: Lake) -> None:
    every_way_of_writing(lake)
    assert sorted(lake.read(TABLE)["id"]) == ["a", "d", "e", "f"]


def test_damage_is_named_where_it_is_read_and_nowhere_else(lake: Lake) -> None:
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


def test_adding_rows_reads_keys_alone(lake: Lake) -> None:
    """A day's embeddings must not pass through memory at every commit of its extraction."""
    lake.add(TABLE, rows(DAYS[0], "abc"))
    (path,) = files(lake)
    flip(path, column(path, "detail")[-4])
    assert lake.add(TABLE, rows(DAYS[0], "cd")) == 1
    with pytest.raises(ProvenanceError, match=path.name):
        lake.read(TABLE)


def test_a_merge_does_not_take_damage_along(lake: Lake) -> None:
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
    # A column that a file lacks would be read as nulls.
    flip(path, content.index(b"content_hash", footer))
    with pytest.raises(ProvenanceError, match=path.name):
        lake.read(TABLE)


def test_a_damaged_day_can_be_dropped_and_written_again(lake: Lake) -> None:
    """What docs/operate.md tells to do where there is no backup."""
    for day in DAYS:
        lake.replace(TABLE, rows(day, "abc"), {"dt": day, "step": "ingest"})
    (path,) = [path for path in files(lake) if f"dt={DAYS[1]}" in str(path)]
    path.write_bytes(path.read_bytes()[:100])
    lake.delete(TABLE, f"dt = '{DAYS[1]}'")
    assert len(lake.read(TABLE)) == 3
    lake.add(TABLE, rows(DAYS[1], "abc"))
    assert len(lake.read(TABLE)) == 6
