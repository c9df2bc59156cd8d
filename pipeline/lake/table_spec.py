"""Describes tables: fields, keys, and the checks before each write."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from pipeline.errors import SchemaError


@dataclass(frozen=True)
class Field:
    """One column.

    Attributes:
        name: of the column.
        type: Arrow type.
        meaning: text for docs/tables.md.
        unit: of the values; empty if they have none.
        nullable: whether a value may be null.
        low: smallest value.
        high: largest value.
        one_of: the permitted values; empty if all are.
    """

    name: str
    type: pa.DataType
    meaning: str
    unit: str = ""
    nullable: bool = False
    low: float | None = None
    high: float | None = None
    one_of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """One table of the lake, or one manifest of the landing contract.

    Attributes:
        name: of the table.
        meaning: text for docs/tables.md.
        key: columns that identify a row.
        partition_by: columns that divide the table into partitions.
        fields: the columns.
    """

    name: str
    meaning: str
    key: tuple[str, ...]
    partition_by: tuple[str, ...]
    fields: tuple[Field, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the fields, in order."""
        return tuple(field.name for field in self.fields)

    @property
    def identity(self) -> list[str]:
        """Names of the key and partition columns, which together identify a row."""
        return list(dict.fromkeys((*self.key, *self.partition_by)))

    @property
    def arrow_schema(self) -> pa.Schema:
        """The Arrow schema of the table's files."""
        return pa.schema([pa.field(f.name, f.type, nullable=f.nullable) for f in self.fields])

    @property
    def empty(self) -> pl.DataFrame:
        """A frame without rows, with the table's columns and types."""
        frame = pl.from_arrow(self.arrow_schema.empty_table())
        assert isinstance(frame, pl.DataFrame)
        return frame

    def frame(self, rows: list[dict[str, object]]) -> pl.DataFrame:
        """Convert rows to a frame of the table's columns and types, and check it.

        Args:
            rows: one dictionary per row, column name -> value.

        Raises:
            SchemaError: see `check`.
        """
        try:
            frame = pl.DataFrame(rows, schema=self.empty.schema, orient="row")
        except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
            raise SchemaError(str(error), where=self.name) from error
        return self.check(frame)

    def check(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the frame in the table's column order, if it matches the table.

        Raises:
            SchemaError: a column is missing, unknown or has another type, a value is null, out of
                range or not permitted, or two rows have the same key. The message names table,
                field and row.
        """
        missing = set(self.columns) - set(frame.columns)
        unknown = set(frame.columns) - set(self.columns)
        if missing or unknown:
            raise SchemaError(
                f"Missing columns {sorted(missing)}, unknown columns {sorted(unknown)}",
                where=self.name,
            )
        frame = frame.select(self.columns)
        for field, (name, wanted) in zip(self.fields, self.empty.schema.items(), strict=True):
            if frame.schema[name] != wanted:
                raise SchemaError(
                    f"The column has the type {frame.schema[name]}, not {wanted}",
                    where=f"{self.name}.{name}",
                )
            bad = frame.select(_is_invalid(field).arg_true().alias("row"))["row"]
            if len(bad):
                value = frame[name][int(bad[0])]
                raise SchemaError(
                    f"{len(bad)} of {len(frame)} rows violate '{_rule(field)}'; the first has "
                    f"{value!r}",
                    where=f"{self.name}.{name} row {bad[0]}",
                )
        twice = frame.select(pl.struct(self.key).is_duplicated().sum()).item() if self.key else 0
        if twice:
            raise SchemaError(f"{twice} rows share a key {self.key}", where=self.name)
        return frame


def _is_invalid(field: Field) -> pl.Expr:
    column = pl.col(field.name)
    invalid = pl.lit(False) if field.nullable else column.is_null()
    if pa.types.is_floating(field.type):
        invalid = invalid | column.is_nan().fill_null(False) | column.is_infinite().fill_null(False)
    if pa.types.is_list(field.type) and pa.types.is_floating(field.type.value_type):
        invalid = invalid | ~column.list.eval(pl.element().is_finite()).list.all().fill_null(True)
    if field.low is not None:
        invalid = invalid | (column < field.low).fill_null(False)
    if field.high is not None:
        invalid = invalid | (column > field.high).fill_null(False)
    if field.one_of:
        invalid = invalid | (~column.is_in(field.one_of)).fill_null(False)
    return invalid


def _rule(field: Field) -> str:
    parts = ["may be null" if field.nullable else "not null"]
    if field.low is not None:
        parts.append(f">= {field.low:g}")
    if field.high is not None:
        parts.append(f"<= {field.high:g}")
    if field.one_of:
        parts.append("one of " + ", ".join(field.one_of))
    return ", ".join(parts)
