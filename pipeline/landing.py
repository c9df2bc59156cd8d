"""The landing contract: what a day's folder holds, read row by row and trusted in nothing.

A manifest that cannot be read as a whole (missing column, two files, not CSV/JSON/Parquet)
fails the day. A single bad row is returned as a `BadRow`, naming file, row and field.
"""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DayNotReadyError, ManifestError, RowReason
from pipeline.schemas import ID_BYTES, LANDING
from pipeline.table import Field, Table

SUCCESS = "_SUCCESS"
FORMATS = ("parquet", "csv", "jsonl")

Row = dict[str, object]


@dataclass(frozen=True)
class BadRow:
    """A manifest row that cannot enter the catalogue.

    Attributes:
        id: the row's id, or "file:row" where it has none that can be read.
        reason: why.
        detail: file, row number (from 1, the header not counted), field and what was found.
    """

    id: str
    reason: RowReason
    detail: str


@dataclass(frozen=True)
class Manifest:
    """The rows of one manifest: valid ones with their row number, and the bad ones."""

    rows: list[tuple[int, Row]]
    bad: list[BadRow]
    file: str


class LandingDay:
    """One `landing/dt=D` folder. It is only ever read."""

    def __init__(self, root: Path, day: dt.date) -> None:
        self.day = day
        self.folder = root / f"dt={day.isoformat()}"

    def require_success(self) -> None:
        """Check that the day is complete.

        Raises:
            DayNotReadyError: with the path of the missing `_SUCCESS`.
        """
        if not self.is_complete:
            raise DayNotReadyError("the day is not complete", where=str(self.folder / SUCCESS))

    @property
    def is_complete(self) -> bool:
        """Whether the delivering system has written `_SUCCESS`."""
        return (self.folder / SUCCESS).is_file()

    def manifest(self, name: str) -> Manifest:
        """Read `videos`, `music` or `deletions`; an absent `deletions` has no rows.

        Raises:
            ManifestError: the file is absent or a symbolic link, there are two, or it cannot be
                read as a whole.
        """
        table = LANDING["deletion_requests" if name == "deletions" else f"landing_{name}"]
        files = [path for ext in FORMATS if (path := self.folder / f"{name}.{ext}").is_file()]
        for path in (self.folder, *files):
            if path.is_symlink():
                raise ManifestError("a symbolic link", where=str(path))
        if len(files) > 1:
            raise ManifestError("one format only", where=", ".join(map(str, files)))
        if not files:
            if name == "deletions":
                return Manifest([], [], name)
            raise ManifestError(
                f"no {name}.parquet, .csv or .jsonl in the day", where=str(self.folder)
            )
        return _read(files[0], table)

    def fingerprint(self, salt: str) -> str:
        """Hash over every file's path, size and time, and the manifests' bytes.

        Args:
            salt: whatever else must lead to a new ingest when it changes (settings).
        """
        digest = hashlib.sha256(salt.encode())
        for path in sorted(self.folder.rglob("*")):
            if path.is_symlink() or not path.is_file():
                continue
            state = path.stat()
            name = path.relative_to(self.folder).as_posix()
            digest.update(f"{name}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
            if path.parent == self.folder:
                digest.update(path.read_bytes())
        return digest.hexdigest()

    def resolve(self, media_path: str) -> Path | None:
        """The file a manifest names, or None where the path leaves the day's folder.

        Symbolic links are refused whatever they point at: what they mean can change later.
        """
        relative = Path(media_path)
        if relative.is_absolute() or ".." in relative.parts or "\0" in media_path:
            return None
        path = self.folder
        for part in relative.parts:
            path = path / part
            if path.is_symlink():
                return None
        return path


def landing_days(root: Path) -> list[dt.date]:
    """The days a landing folder holds, complete or not, in order."""
    days = []
    for folder in root.glob("dt=*"):
        try:
            days.append(dt.date.fromisoformat(folder.name.removeprefix("dt=")))
        except ValueError as error:
            raise ManifestError("not a day (dt=YYYY-MM-DD)", where=str(folder)) from error
    return sorted(days)


def _read(path: Path, table: Table) -> Manifest:
    rows: list[tuple[int, Row]] = []
    bad: list[BadRow] = []
    for number, raw in _raw_rows(path, table):
        place = f"{path.name} row {number}"
        if isinstance(raw, str):
            bad.append(BadRow(f"{path.name}:{number}", RowReason.UNREADABLE_ROW, f"{place}: {raw}"))
            continue
        row, faults = _validated(raw, table)
        if faults:
            key = row.get(table.key[-1])
            name = key if isinstance(key, str) and key else f"{path.name}:{number}"
            bad.append(BadRow(name, RowReason.INVALID_FIELD, f"{place}, {'; '.join(faults)}"))
        else:
            rows.append((number, row))
    return Manifest(rows, bad, path.name)


def _check_columns(where: str, table: Table, columns: set[str], needed: set[str]) -> None:
    missing = needed - columns
    unknown = columns - set(table.columns)
    if missing or unknown:
        raise ManifestError(
            f"missing columns {sorted(missing)}, unknown columns {sorted(unknown)}", where=where
        )


def _raw_rows(path: Path, table: Table) -> Iterator[tuple[int, Row | str]]:
    """Rows with their number from 1; a string instead of a row says why it is unreadable."""
    needed = {field.name for field in table.fields if not field.nullable}
    try:
        if path.suffix == ".parquet":
            yield from _parquet_rows(path, table, needed)
        elif path.suffix == ".csv":
            yield from _csv_rows(path, table, needed)
        else:
            yield from _jsonl_rows(path, table)
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        raise ManifestError(f"cannot be read: {error}", where=str(path)) from error


def _parquet_rows(path: Path, table: Table, needed: set[str]) -> Iterator[tuple[int, Row | str]]:
    with pq.ParquetFile(path) as file:
        _check_columns(str(path), table, set(file.schema_arrow.names), needed)
        number = 0
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield number, row


def _csv_rows(path: Path, table: Table, needed: set[str]) -> Iterator[tuple[int, Row | str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, strict=True)
        header = next(reader, None)
        if header is None:
            raise ManifestError("the file is empty: not even a header", where=str(path))
        _check_columns(str(path), table, set(header), needed)
        for number, cells in enumerate(reader, start=1):
            if len(cells) != len(header):
                yield number, f"{len(cells)} cells under {len(header)} columns"
            else:
                # CSV cannot tell null from the empty text; ours is null.
                yield number, {k: v or None for k, v in zip(header, cells, strict=True)}


def _jsonl_rows(path: Path, table: Table) -> Iterator[tuple[int, Row | str]]:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield number, f"not valid JSON: {error}"
                continue
            if isinstance(row, dict):
                # JSON leaves null members out, so only an unknown one is a fault of the file.
                _check_columns(f"{path} row {number}", table, set(row), needed=set())
                yield number, row
            else:
                yield number, "not a JSON object"


def _validated(raw: Row, table: Table) -> tuple[Row, list[str]]:
    row: Row = {}
    faults = []
    for field in table.fields:
        try:
            row[field.name] = _value(raw.get(field.name), field)
        except ValueError as error:
            faults.append(f"field {field.name}: {error}")
    return row, faults


def _value(value: object, field: Field) -> object:
    """The value in the field's type.

    Raises:
        ValueError: saying what was found instead.
    """
    if value is None or value == "":
        if field.nullable:
            return None
        raise ValueError("empty")
    if pa.types.is_timestamp(field.type):
        return _time(value)
    if not isinstance(value, str):
        raise ValueError(f"text expected, found {type(value).__name__} {value!r:.80}")
    if len(value.encode("utf-8", "surrogatepass")) > ID_BYTES:
        raise ValueError(f"longer than {ID_BYTES} bytes")
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]", value):
        raise ValueError(f"control characters in {value!r:.80}")
    if field.name == "sha256" and not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise ValueError(f"64 hex digits expected, found {value!r:.80}")
    if field.one_of and value not in field.one_of:
        raise ValueError(f"one of {', '.join(field.one_of)} expected, found {value!r:.80}")
    return value.lower() if field.name == "sha256" else value


def _time(value: object) -> dt.datetime:
    if isinstance(value, str):
        try:
            value = dt.datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError(f"ISO 8601 time expected, found {value!r:.80}") from error
    if not isinstance(value, dt.datetime):
        raise ValueError(f"time expected, found {type(value).__name__} {value!r:.80}")
    if value.tzinfo is None:
        raise ValueError(f"time with a time zone expected, found {value.isoformat()}")
    return value.astimezone(dt.UTC)
