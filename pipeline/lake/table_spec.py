"""What a table is: its fields, its key, and the checks before each write."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from pipeline.errors import SchemaError


@dataclass(frozen=True)
class Field:
    """One column: `low` and `high` are inclusive bounds, `one_of` a closed set of values."""

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
    """One table of the lake, or one manifest of the landing contract."""

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
        """Names of the columns that tell rows apart: key and partition."""
        return list(dict.fromkeys((*self.key, *self.partition_by)))

    @property
    def arrow_schema(self) -> pa.Schema:
        """The Arrow schema that files of the table have."""
        return pa.schema([pa.field(f.name, f.type, nullable=f.nullable) for f in self.fields])

    @property
    def empty(self) -> pl.DataFrame:
        """A frame of no rows with the table's columns and types."""
        frame = pl.from_arrow(self.arrow_schema.empty_table())
        assert isinstance(frame, pl.DataFrame)
        return frame

    def frame(self, rows: list[dict[str, object]]) -> pl.DataFrame:
        """Rows as a frame of the table's columns and types, checked.

        Raises:
            SchemaError: naming table, field and row.
        """
        try:
            frame = pl.DataFrame(rows, schema=self.empty.schema, orient="row")
        except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
            raise SchemaError(str(error), where=self.name) from error
        return self.check(frame)

    def check(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame in column order, if it keeps the table's promises.

        Raises:
            SchemaError: a column is missing, unknown or mistyped, a value is null, out of range
                or outside its closed set, or two rows share a key.
        """
        missing = set(self.columns) - set(frame.columns)
        unknown = set(frame.columns) - set(self.columns)
        if missing or unknown:
            raise SchemaError(
                f"missing columns {sorted(missing)}, unknown columns {sorted(unknown)}",
                where=self.name,
            )
        frame = frame.select(self.columns)
        for field, (name, wanted) in zip(self.fields, self.empty.schema.items(), strict=True):
            if frame.schema[name] != wanted:
                raise SchemaError(
                    f"is {frame.schema[name]}, not {wanted}", where=f"{self.name}.{name}"
                )
            bad = frame.select(_broken(field).arg_true().alias("row"))["row"]
            if len(bad):
                value = frame[name][int(bad[0])]
                raise SchemaError(
                    f"{len(bad)} of {len(frame)} rows break '{_rule(field)}', first: {value!r}",
                    where=f"{self.name}.{name} row {bad[0]}",
                )
        twice = frame.select(pl.struct(self.key).is_duplicated().sum()).item() if self.key else 0
        if twice:
            raise SchemaError(f"{twice} rows share a key {self.key}", where=self.name)
        return frame


def _broken(field: Field) -> pl.Expr:
    column = pl.col(field.name)
    broken = pl.lit(False) if field.nullable else column.is_null()
    if pa.types.is_floating(field.type):
        broken = broken | column.is_nan().fill_null(False) | column.is_infinite().fill_null(False)
    if pa.types.is_list(field.type) and pa.types.is_floating(field.type.value_type):
        broken = broken | ~column.list.eval(pl.element().is_finite()).list.all().fill_null(True)
    if field.low is not None:
        broken = broken | (column < field.low).fill_null(False)
    if field.high is not None:
        broken = broken | (column > field.high).fill_null(False)
    if field.one_of:
        broken = broken | (~column.is_in(field.one_of)).fill_null(False)
    return broken


def _rule(field: Field) -> str:
    parts = ["may be null" if field.nullable else "not null"]
    if field.low is not None:
        parts.append(f">= {field.low:g}")
    if field.high is not None:
        parts.append(f"<= {field.high:g}")
    if field.one_of:
        parts.append("one of " + ", ".join(field.one_of))
    return ", ".join(parts)
