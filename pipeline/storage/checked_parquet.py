"""Parquet files that notice damage: how they are written, and what is checked as they are read.

Every page is a gzip member, whose trailer holds a CRC-32: a bit that turns over fails the read of
that page, and no other page need be read to find it. polars' own reader stops before the trailer,
so pages are read by pyarrow; the tables' engine, when it merges or compacts, checks them too. A
footer has no checksum: it is compared with what every file of its table must say.
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

# What is read before it is asked for: the default, sixteen batches of 100,000 rows, is gigabytes
# of wide vectors.
_AHEAD = {"batch_size": 16_384, "batch_readahead": 2, "fragment_readahead": 2}
# Footers read at once: object storage answers each in tens of milliseconds.
_AT_ONCE = 8
# Statistics are what a reader would believe of a footer without reading a page.
WRITER = WriterProperties(
    compression="GZIP",
    compression_level=1,
    default_column_properties=ColumnProperties(statistics_enabled="NONE"),
)


class CheckedFiles:
    """The files of a table's version, as the dataset that `pl.scan_pyarrow_dataset` reads.

    Only the columns and files that a query needs are read.

    Args:
        table: at the version to read.
        where: URL or local path, for errors.
        schema: of the table in pipeline/lake/schemas.py.
        storage: its root is the table's. Not one written in Python: Arrow's threads would wait
            for the interpreter in the midst of a read.
    """

    def __init__(
        self, table: DeltaTable, where: str, schema: pa.Schema, storage: pafs.FileSystem
    ) -> None:
        self.schema = schema
        self._where = where
        partitioned_by = table.metadata().partition_columns
        self._leaves = _written(pa.schema([f for f in schema if f.name not in partitioned_by]))
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
        filter: pc.Expression | None,  # noqa: A002 - polars names it so
        **_: Any,
    ) -> Iterator[pa.RecordBatch]:
        """Some columns of the rows for which an expression holds; no more is read.

        Raises:
            LakeUnavailableError: the storage does not answer.
            ProvenanceError: a file is damaged; it is named.
        """
        files = list(self._files.get_fragments(filter))
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(self._check_footer, files))
        try:
            yield from self._files.to_batches(columns=columns, filter=filter, **_AHEAD)
        except (pa.ArrowException, OSError, ValueError) as error:
            # The message does not always name the file: read them one by one to find it.
            for file in files:
                with self._naming(file):
                    for _ in file.to_batches(schema=self.schema, columns=columns):
                        pass
            raise as_pipeline_error(error, self._where) from error

    def _check_footer(self, file: ds.ParquetFileFragment) -> None:
        with self._naming(file):
            footer = file.metadata
            if (found := _leaves(footer.schema)) != self._leaves:
                raise pa.ArrowInvalid(f"the footer has columns {found}, not {self._leaves}")
            # pyarrow's reader ends the process where a chunk's type is wrong; this raises.
            for group in range(footer.num_row_groups):
                for column in range(footer.num_columns):
                    footer.row_group(group).column(column)

    @contextmanager
    def _naming(self, file: ds.ParquetFileFragment) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, ValueError) as error:
            found = as_pipeline_error(error, self._where)
            raise type(found)(f"{file.path}: {found.what}", where=self._where) from error


def _leaves(schema: pq.ParquetSchema) -> list[tuple[str, str, str]]:
    """Path, physical and logical type of every column of a file."""
    leaves = [schema.column(number) for number in range(len(schema))]
    return [(leaf.path, leaf.physical_type, str(leaf.logical_type)) for leaf in leaves]


def _written(schema: pa.Schema) -> list[tuple[str, str, str]]:
    """What `_leaves` says of a file of these columns."""
    empty = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), empty)
    return _leaves(pq.ParquetFile(empty.getvalue()).schema)


def _partition(values: dict[str, Any]) -> pc.Expression:
    held = [ds.field(name) == value for name, value in values.items()]
    return reduce(and_, held, pc.scalar(True))
