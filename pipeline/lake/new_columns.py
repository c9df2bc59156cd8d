"""Adds columns that a table has got since it was created to its Delta log."""

from __future__ import annotations

import logging

from deltalake import DeltaTable, Schema

from pipeline.lake.table_spec import Table

log = logging.getLogger(__name__)


def add_new_columns(delta: DeltaTable, table: Table) -> None:
    """Add the nullable columns that the log does not have yet, in one commit. Idempotent.

    Existing files are not written again: they read as null in the new columns.

    Args:
        delta: the table at its newest version; afterwards at the version with the columns.
        table: its declaration.

    Raises:
        CommitFailedError: another writer has changed the columns or properties meanwhile.
    """
    known = {field.name for field in delta.schema().fields}
    nullable = {field.name for field in table.fields if field.nullable}
    declared = Schema.from_arrow(table.arrow_schema).fields
    new = [field for field in declared if field.name in nullable - known]
    if new:
        delta.alter.add_columns(new)
        log.info("%s: added the columns %s", table.name, ", ".join(field.name for field in new))
