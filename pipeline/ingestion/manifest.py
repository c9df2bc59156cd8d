"""Reads a manifest row by row; Parquet, CSV and JSON lines give the same rows and errors.

If the file cannot be read, an error is raised. An invalid row is returned as a `BadRow` that names
file, row and field; the other rows are read. A row of CSV or JSON is one line, so that a stray
quote only affects its own row.
"""

from __future__ import annotations

import csv
import datetime as dt
import errno
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import (
    LandingAccessError,
    LandingUnavailableError,
    ManifestError,
    PipelineError,
    RowReason,
)
from pipeline.ingestion.format_hints import (
    HEAD_BYTES,
    other_format,
    other_spelling,
    wrong_first_line,
)
from pipeline.lake.schemas import ID_BYTES
from pipeline.lake.table_spec import Field, Table

Row = dict[str, object]

# Longest line, in characters: five times a row with the longest fields, escaped as JSON.
_LINE = 1 << 20
# Number of names that a message lists.
_MAX_NAMES = 5
_NO_ANSWER = {errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT}
# Fields that name something. A deletion request must match them exactly.
_IDS = {"video_id", "music_id", "uploader_id", "id"}
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_NOT_UTF8 = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True)
class BadRow:
    """An invalid row of a manifest.

    Attributes:
        id: the row's id, or "file:row" if it has no readable id.
        reason: why it is invalid.
        detail: file, row number (from 1, without the header), field and what was found.
        uploader_id: the row's uploader; None if it has none, or none that can be read.
    """

    id: str
    reason: RowReason
    detail: str
    uploader_id: str | None = None


@dataclass(frozen=True)
class Manifest:
    """The rows of one manifest.

    Attributes:
        rows: the valid rows with their row number.
        bad: the invalid rows.
        file: name of the file.
    """

    rows: list[tuple[int, Row]]
    bad: list[BadRow]
    file: str


@dataclass(frozen=True)
class _Unreadable:
    """A cell whose bytes are invalid for its type: text that is not UTF-8, a time out of range."""

    message: str


def read_manifest(path: Path, table: Table) -> Manifest:
    """Read a .parquet, .csv or .jsonl file.

    Args:
        path: the file.
        table: the expected columns and their types.

    Raises:
        ManifestError: the file cannot be read, or a column is missing, unknown or duplicated.
        LandingAccessError: the operating system does not permit reading the file.
        LandingUnavailableError: the storage does not answer.
    """
    rows: list[tuple[int, Row]] = []
    bad: list[BadRow] = []
    for number, raw in _raw_rows(path, table):
        place = f"{path.name} row {number}"
        if isinstance(raw, str):
            bad.append(BadRow(f"{path.name}:{number}", RowReason.UNREADABLE_ROW, f"{place}: {raw}"))
            continue
        row, errors = _validated(raw, table)
        if errors:
            key = row.get(table.key[-1])
            name = key if isinstance(key, str) and key else f"{path.name}:{number}"
            uploader = row.get("uploader_id")
            bad.append(
                BadRow(
                    name,
                    RowReason.INVALID_FIELD,
                    f"{place}, {'; '.join(errors)}",
                    str(uploader) if uploader else None,
                )
            )
        else:
            rows.append((number, row))
    return Manifest(rows, bad, path.name)


def _raw_rows(path: Path, table: Table) -> Iterator[tuple[int, Row | str]]:
    """Yield rows with their number from 1; instead of an unreadable row, a message."""
    read = {".parquet": _parquet_rows, ".csv": _csv_rows, ".jsonl": _jsonl_rows}[path.suffix]
    try:
        with path.open("rb") as stream:
            other = other_format(stream.read(HEAD_BYTES), path.suffix)
        if other:
            raise ManifestError(f"The file is {other}", where=str(path))
        yield from read(path, table)
    except OSError as error:
        raise as_landing_error(error, path) from error
    except (csv.Error, pa.ArrowException) as error:
        raise ManifestError(f"The manifest cannot be read: {error}", where=str(path)) from error


def as_landing_error(error: OSError, path: Path) -> PipelineError:
    """Return the pipeline error for an `OSError` of the landing area.

    Args:
        error: as the system raised it.
        path: the file or folder that cannot be read.
    """
    if isinstance(error, PermissionError):
        return LandingAccessError(f"Reading is not permitted: {error.strerror}", where=str(path))
    if error.errno in _NO_ANSWER:
        return LandingUnavailableError(
            f"The storage does not answer: {error.strerror}", where=str(path)
        )
    return ManifestError(f"Reading failed: {error.strerror or error}", where=str(path))


def _check_columns(path: Path, table: Table, columns: list[str]) -> None:
    missing = {field.name for field in table.fields if not field.nullable} - set(columns)
    unknown = set(columns) - set(table.columns)
    twice = {name for name, count in Counter(columns).items() if count > 1} - unknown
    known = [name for name in columns if name.strip().lower() in table.columns]
    if 2 * len(known) < len(columns):
        # Do not repeat the line: it may be a row with ids, which a message must not contain.
        what = "Wrong columns" if path.suffix == ".parquet" else "The first line is not a header"
        raise ManifestError(f"{what}: expected {', '.join(table.columns)}", where=str(path))
    hint = other_spelling(columns, table.columns)
    errors = [
        f"{fault} {_quoted_names(names)}"
        for fault, names in (
            ("missing columns", missing),
            ("unknown columns", unknown),
            ("duplicate columns", twice),
        )
        if names
    ]
    if errors:
        text = f"Wrong header: {', '.join(errors)}{f'; {hint}' if hint else ''}"
        raise ManifestError(text, where=str(path))


def _quoted_names(names: Iterable[str]) -> str:
    """List the first names, shortened for a message."""
    found = sorted(names)
    rest = f" and {len(found) - _MAX_NAMES} more" if len(found) > _MAX_NAMES else ""
    return ", ".join(f"{name!r:.80}" for name in found[:_MAX_NAMES]) + rest


def _parquet_rows(path: Path, table: Table) -> Iterator[tuple[int, Row | str]]:
    with pq.ParquetFile(path) as file:
        names = list(file.schema_arrow.names)
        _check_columns(path, table, names)
        number = 0
        for batch in file.iter_batches():
            for cells in zip(*(_cells(column) for column in batch.columns), strict=True):
                number += 1
                yield number, dict(zip(names, cells, strict=True))


def _cells(column: pa.Array) -> list[object]:
    """Return a column's values; an invalid one becomes `_Unreadable`."""
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError, KeyError, pa.ArrowException):
        return [_cell(scalar) for scalar in column]


def _cell(scalar: pa.Scalar) -> object:
    try:
        return scalar.as_py()
    # An unknown time zone is a KeyError.
    except (ValueError, OverflowError, KeyError, pa.ArrowException) as error:
        return _Unreadable(f"{scalar.type} that cannot be read: {error!s:.80}")


def _csv_rows(path: Path, table: Table) -> Iterator[tuple[int, Row | str]]:
    lines = _lines(path, newline="")
    _, first = next(lines, (0, None))
    if first is None:
        what = f"The first line is {_TOO_LONG}" if path.stat().st_size else "The file is empty"
        raise ManifestError(f"{what}; it needs a header", where=str(path))
    if wrong := wrong_first_line(first, table.columns):
        raise ManifestError(wrong, where=str(path))
    header = next(csv.reader([first], strict=True))
    _check_columns(path, table, header)
    for number, line in lines:
        if line is None:
            yield number - 1, _TOO_LONG
        elif line.strip():
            yield number - 1, _csv_row(header, line)


def _csv_row(header: list[str], line: str) -> Row | str:
    try:
        cells = next(csv.reader([line], strict=True))
    except csv.Error as error:
        return f"not valid CSV: {error}; a row is one line"
    if len(cells) != len(header):
        return f"{len(cells)} cells under {len(header)} columns"
    # CSV has no null; an empty cell is null.
    return {name: cell or None for name, cell in zip(header, cells, strict=True)}


def _jsonl_rows(path: Path, table: Table) -> Iterator[tuple[int, Row | str]]:
    for number, line in _lines(path, newline="\n"):
        if line is None:
            yield number, _TOO_LONG
        elif line.strip():
            yield number, _json_row(line)


def _json_row(line: str) -> Row | str:
    try:
        row = json.loads(line, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        return f"not valid JSON: {error}"
    return row if isinstance(row, dict) else "not a JSON object; a row is one object on one line"


def _object(members: list[tuple[str, object]]) -> Row:
    twice = [name for name, count in Counter(name for name, _ in members).items() if count > 1]
    if twice:
        raise ValueError(f"duplicate members {_quoted_names(twice)}")
    return dict(members)


_TOO_LONG = f"a line of {_LINE} characters or more"


def _lines(path: Path, newline: str) -> Iterator[tuple[int, str | None]]:
    """Yield lines with their number from 1, and None for a line that is too long.

    Bytes that are not UTF-8 become surrogates, with which a field is invalid.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline) as stream:
        number = 0
        while line := stream.readline(_LINE):
            number += 1
            whole = len(line) < _LINE or line.endswith("\n")
            while len(line) == _LINE and not line.endswith("\n"):
                line = stream.readline(_LINE)
            yield number, line if whole else None


def _validated(raw: Row, table: Table) -> tuple[Row, list[str]]:
    row: Row = {}
    errors = []
    for field in table.fields:
        try:
            row[field.name] = _value(raw.get(field.name), field)
        except ValueError as error:
            errors.append(f"field {field.name}: {error}")
    # In JSON, every row has its own members.
    if unknown := set(raw) - set(table.columns):
        errors.append(f"unknown fields {_quoted_names(unknown)}")
    return row, errors


def _value(value: object, field: Field) -> object:
    """Return the value in the field's type.

    Raises:
        ValueError: the value is invalid; the message says what was expected and found.
    """
    if value is None or value == "":
        if field.nullable:
            return None
        raise ValueError("empty")
    if isinstance(value, _Unreadable):
        raise ValueError(value.message)
    if pa.types.is_timestamp(field.type):
        return _time(value)
    if not isinstance(value, str):
        raise ValueError(f"text expected, found {type(value).__name__} {value!r:.80}")
    if len(value.encode("utf-8", "surrogatepass")) > ID_BYTES:
        raise ValueError(f"longer than {ID_BYTES} bytes")
    if _NOT_UTF8.search(value):
        raise ValueError(f"not UTF-8: {value!r:.80}")
    if _CONTROL.search(value):
        raise ValueError(f"control characters in {value!r:.80}")
    if field.name in _IDS and value != value.strip():
        # Do not repeat the id: without the white space it can be one whose deletion was requested.
        raise ValueError("white space at the start or end of an id")
    if field.name == "sha256" and not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise ValueError(f"64 hex digits expected, found {value!r:.80}")
    if field.one_of and value not in field.one_of:
        raise ValueError(f"one of {', '.join(field.one_of)} expected, found {value!r:.80}")
    return value.lower() if field.name == "sha256" else value


def _time(value: object) -> dt.datetime:
    if isinstance(value, str):
        try:
            # RFC 3339 permits a lower-case z; `fromisoformat` does not.
            value = dt.datetime.fromisoformat(re.sub("z$", "Z", value))
        except ValueError as error:
            raise ValueError(f"ISO 8601 time expected, found {value!r:.80}") from error
    if not isinstance(value, dt.datetime):
        raise ValueError(f"time expected, found {type(value).__name__} {value!r:.80}")
    if value.tzinfo is None:
        raise ValueError(f"time with a time zone expected, found {value.isoformat()}")
    try:
        return value.astimezone(dt.UTC)
    except OverflowError as error:
        raise ValueError(f"outside the years 1 to 9999 in UTC: {value.isoformat()}") from error
