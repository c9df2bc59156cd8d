"""The declared tables: keys, partitions and meanings of every field."""

from __future__ import annotations

import pytest

from pipeline.lake.codes import IdKind, Source
from pipeline.lake.schemas import LANDING, TABLES
from pipeline.lake.table_spec import Table

ALL_TABLES = [*TABLES.values(), *LANDING.values()]


@pytest.mark.parametrize("table", ALL_TABLES, ids=lambda table: table.name)
def test_every_key_and_partition_is_a_column_that_is_never_null(table: Table) -> None:
    by_name = {field.name: field for field in table.fields}
    for column in (*table.key, *table.partition_by):
        assert not by_name[column].nullable


@pytest.mark.parametrize("table", ALL_TABLES, ids=lambda table: table.name)
def test_every_field_has_a_meaning(table: Table) -> None:
    assert all(field.meaning for field in table.fields)


def test_a_table_can_have_its_own_form_of_a_shared_field() -> None:
    def permitted(table: str, column: str) -> tuple[str, ...]:
        schema = {**TABLES, **LANDING}[table]
        (field,) = [field for field in schema.fields if field.name == column]
        return field.one_of

    assert permitted("quarantine", "kind") == (IdKind.VIDEO, IdKind.MUSIC)
    assert permitted("deletions", "kind") == tuple(IdKind)
    assert permitted("landing_videos", "source") == tuple(Source)
