"""The checks of a table: which rows may be written, and how an error names the others."""

from __future__ import annotations

from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from pipeline.errors import SchemaError
from pipeline.lake.table_spec import Field, Table

TABLE = Table(
    "clips",
    "clips of a day",
    ("name",),
    ("dt",),
    (
        Field("name", pa.string(), "its name"),
        Field("dt", pa.string(), "its day"),
        Field("source", pa.string(), "its source", one_of=("ugc", "pgc")),
        Field("frames", pa.int32(), "its frames", low=1, high=9, nullable=True),
        Field(
            "vector",
            pa.list_(pa.field("element", pa.float32(), nullable=False)),
            "its features",
        ),
    ),
)
CLIP: dict[str, Any] = {
    "name": "a",
    "dt": "2026-03-01",
    "source": "ugc",
    "frames": 3,
    "vector": [1.0, 2.0],
}


def test_a_valid_row_is_accepted_in_column_order() -> None:
    reordered = dict(reversed(CLIP.items()))
    frame = TABLE.frame([reordered, CLIP | {"name": "b", "frames": None}])
    assert tuple(frame.columns) == TABLE.columns
    assert frame.schema == TABLE.empty.schema
    assert TABLE.identity == ["name", "dt"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": 0}, r"1 of 2 rows violate .*>= 1.* has 0 \(clips.frames row 1\)"),
        ({"frames": 10}, r"<= 9.* has 10 "),
        ({"source": "tv"}, r"one of ugc, pgc.* has 'tv' \(clips.source row 1\)"),
        ({"name": None}, r"not null.*\(clips.name row 1\)"),
        ({"vector": [1.0, float("nan")]}, r"\(clips.vector row 1\)"),
        ({"frames": "many"}, r"clips"),
    ],
)
def test_an_invalid_value_names_table_field_and_row(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        TABLE.frame([CLIP | {"name": "b"}, CLIP | changes])


def test_two_rows_with_one_key_are_an_error() -> None:
    with pytest.raises(SchemaError, match="2 rows share a key"):
        TABLE.frame([CLIP, CLIP])


def test_missing_and_unknown_columns_are_named() -> None:
    frame = TABLE.frame([CLIP]).rename({"frames": "fames"})
    with pytest.raises(SchemaError, match=r"Missing columns \['frames'\], unknown.*fames"):
        TABLE.check(frame)


def test_a_column_of_another_type_is_an_error() -> None:
    frame = TABLE.frame([CLIP]).with_columns(pl.col("frames").cast(pl.Int64))
    with pytest.raises(SchemaError, match=r"Int64, not Int32 \(clips.frames\)"):
        TABLE.check(frame)
