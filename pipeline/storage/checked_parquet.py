"""Reads and writes Parquet files so that damage is detected.

Every page is a gzip member with a CRC-32 in its trailer, so a flipped bit fails the read of its
page, and only that page must be read to detect it. pyarrow and the table engine check the trailer;
polars' own reader does not, so it is not used. A footer has no checksum: its columns are compared
with the schema of the table. Only a column that may be null can be missing, because the file can be
older than the column; it is read as null.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import reduce
from operator import and_
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from deltalake import ColumnProperties, DeltaTable, WriterProperties

from pipeline.storage.storage_errors import as_pipeline_error

# Read-ahead. pyarrow's default is sixteen batches of 100,000 rows: gigabytes of wide vectors.
_READ_AHEAD = {"batch_size": 16_384, "batch_readahead": 2, "fragment_readahead": 2}
# Threads that read footers, because object storage needs tens of milliseconds for each.
_FOOTER_THREADS = 8
# No statistics: a reader would trust those of a damaged footer and not read the page.
WRITER = WriterProperties(
    compression="GZIP",
    compression_level=1,
    default_column_properties=ColumnProperties(statistics_enabled="NONE"),
)


class CheckedFiles:
    """The files of one table version, as a dataset for `pl.scan_pyarrow_dataset`.

    A query reads only the columns and files that it needs.

    Args:
        table: the table, loaded at the version to read.
        where: URL or local path of the table, for errors.
        schema: of the table in pipeline/lake/schemas.py.
        storage: file system whose root is the table's folder. It must not be written in Python,
            because Arrow's threads would wait for the interpreter during a read.
    """

    def __init__(
        self, table: DeltaTable, where: str, schema: pa.Schema, storage: pafs.FileSystem
    ) -> None:
        self.schema = schema
        self._where = where
        partitioned_by = table.metadata().partition_columns
        in_files = pa.schema([f for f in schema if f.name not in partitioned_by])
        self._columns = _written_columns(in_files)
        self._nullable = {field.name for field in in_files if field.nullable}
        added = pa.table(table.get_add_actions()).to_pylist()
        parquet = ds.ParquetFileFormat()
        files = [
            parquet.make_fragment(
                unquote(file["path"]),
                storage,
                _partition(file.get("partition") or {}),
                file_size=file["size_bytes"],
            )
            for file in added
        ]
        self._files = ds.FileSystemDataset(files, schema, parquet, storage)

    def to_batches(
        self,
        columns: list[str] | None,
        filter: pc.Expression | None,  # noqa: A002 (the name that polars passes)
        **_: Any,
    ) -> Iterator[pa.RecordBatch]:
        """Yield the columns of the rows for which `filter` holds.

        Args:
            columns: names of columns; None for all.
            filter: expression over the columns; None for all rows.

        Raises:
            LakeUnavailableError: the storage does not answer.
            ProvenanceError: a file is damaged; the message names it.
        """
        files = list(self._files.get_fragments(filter))
        with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
            list(pool.map(self._check_footer, files))
        try:
            yield from self._files.to_batches(columns=columns, filter=filter, **_READ_AHEAD)
        except (pa.ArrowException, OSError, ValueError) as error:
            # The message does not always name the file. Read them one by one to find it.
            for file in files:
                with self._errors_of(file):
                    for _ in file.to_batches(schema=self.schema, columns=columns):
                        pass
            raise as_pipeline_error(error, self._where) from error

    def _check_footer(self, file: ds.ParquetFileFragment) -> None:
        with self._errors_of(file):
            footer = file.metadata
            # A column that was added to the table later is the last one in a file.
            found = sorted(_columns(footer.schema))
            expected = sorted(
                column
                for column in self._columns
                if column in found or column[0].split(".")[0] not in self._nullable
            )
            if found != expected:
                raise pa.ArrowInvalid(f"the footer has columns {found}, not {expected}")
            # If a chunk has a wrong type, reading it would end the process; this loop raises.
            for group in range(footer.num_row_groups):
                for column in range(footer.num_columns):
                    footer.row_group(group).column(column)

    @contextmanager
    def _errors_of(self, file: ds.ParquetFileFragment) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, ValueError) as error:
            found = as_pipeline_error(error, self._where)
            raise type(found)(found.what, where=f"{self._where}/{file.path}") from error


def _columns(schema: pq.ParquetSchema) -> list[tuple[str, str, str]]:
    """Path, physical and logical type of every column of a file."""
    columns = [schema.column(number) for number in range(len(schema))]
    return [(column.path, column.physical_type, str(column.logical_type)) for column in columns]


def _written_columns(schema: pa.Schema) -> list[tuple[str, str, str]]:
    """The result of `_columns` for a file that is written with an Arrow schema."""
    empty = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), empty)
    return _columns(pq.ParquetFile(empty.getvalue()).schema)


def _partition(values: dict[str, Any]) -> pc.Expression:
    conditions = [ds.field(name) == value for name, value in values.items()]
    return reduce(and_, conditions, pc.scalar(True))
