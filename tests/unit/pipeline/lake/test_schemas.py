"""The field table: what may be written, and the error that names what may not."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl
import pytest

from pipeline.errors import SchemaError
from pipeline.lake.schemas import LANDING, TABLES

FEATURE: dict[str, Any] = {
    "content_hash": "a",
    "segment": -1,
    "extractor": "e@1",
    "embedding": [1.0, 2.0],
    "frames": 3,
    "decoder": "pyav",
    "dt": dt.date(2026, 3, 1),
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segment": -2}, r"visual_features.segment row 1.*>= -1.*-2"),
        ({"content_hash": None}, r"visual_features.content_hash row 1.*not null"),
        ({"embedding": [1.0, float("nan")]}, r"visual_features.embedding row 1"),
        ({"frames": "many"}, r"visual_features"),
    ],
)
def test_bad_value_names_table_field_and_row(changes: dict[str, Any], message: str) -> None:
    good = FEATURE | {"content_hash": "b"}
    with pytest.raises(SchemaError, match=message):
        TABLES["visual_features"].frame([good, FEATURE | changes])


def test_two_rows_with_one_key_are_an_error() -> None:
    with pytest.raises(SchemaError, match="2 rows share a key"):
        TABLES["visual_features"].frame([FEATURE, FEATURE])


def test_missing_and_unknown_columns_are_named() -> None:
    frame = TABLES["visual_features"].frame([FEATURE]).rename({"frames": "fames"})
    with pytest.raises(SchemaError, match=r"missing columns \['frames'\], unknown.*fames"):
        TABLES["visual_features"].check(frame)


def test_wrong_type_is_an_error() -> None:
    frame = TABLES["visual_features"].frame([FEATURE]).with_columns(pl.col("frames").cast(pl.Int64))
    with pytest.raises(SchemaError, match=r"frames.*Int64, not Int32"):
        TABLES["visual_features"].check(frame)


@pytest.mark.parametrize("table", [*TABLES.values(), *LANDING.values()], ids=lambda t: t.name)
def test_every_key_and_partition_is_a_column_that_is_never_null(table: Any) -> None:
    by_name = {field.name: field for field in table.fields}
    for column in (*table.key, *table.partition_by):
        assert not by_name[column].nullable


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda t: t.name)
def test_every_field_has_a_meaning(table: Any) -> None:
    assert all(field.meaning for field in table.fields)
