"""Reads and writes the tables: Parquet files under a Delta Lake log, read with polars.

Every write is one commit: it replaces a partition, adds rows with new keys, or deletes rows. Every
write is idempotent and safe under crashes and concurrent writers.
"""

from __future__ import annotations

import datetime as dt
import logging
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.table import TableMerger

from pipeline.errors import ProvenanceError, WriteConflictError
from pipeline.lake.new_columns import add_new_columns
from pipeline.lake.schemas import TABLES
from pipeline.settings.sections import LakeSettings
from pipeline.storage.checked_parquet import WRITER, CheckedFiles
from pipeline.storage.delta_log_check import check_log
from pipeline.storage.filesystem import filesystem
from pipeline.storage.presence import create_lake, lake_exists, refuse_missing_lake
from pipeline.storage.storage_errors import as_pipeline_error, error_text, may_be_log_cleanup
from pipeline.storage.stray_writes import set_aside_stray_writes

log = logging.getLogger(__name__)

T = TypeVar("T")
_LOG_RETENTION = "delta.logRetentionDuration"
_COMPACTION_MARK = "debcm.compaction"
_ORPHAN_HOURS = 24
# Of two commits with the same transaction name that read the same version, Delta accepts one.
_ADD_TRANSACTION = "add"
# Attempts to read a log: upkeep may remove old entries after they were listed.
_MAX_READS = 5
Partition = Mapping[str, str | dt.date]


class Lake:
    """The tables of pipeline/lake/schemas.py under one root.

    Args:
        settings: `[lake]`.
    """

    def __init__(self, settings: LakeSettings) -> None:
        self.root = settings.root.rstrip("/")
        self.options = dict(settings.storage_options)
        self._attempts = settings.commit_attempts
        storage, base = filesystem(self.root, self.options)
        self._storage = pafs.SubTreeFileSystem(base, storage)
        self._seen_before = lake_exists(self.root)

    def uri(self, table: str) -> str:
        """Return the URL or local path of the table."""
        return f"{self.root}/tables/{TABLES[table].name}"

    def version(self, table: str) -> int:
        """Return the version of the table; -1 if it does not exist yet."""
        delta = self._open(table)
        return -1 if delta is None else int(delta.version())

    def scan(self, table: str, version: int | None = None) -> pl.LazyFrame:
        """Return the table's rows; none if the table does not exist yet.

        Args:
            table: name of the table.
            version: version to read; None for the newest.

        Raises:
            LakeUnavailableError: the storage does not answer.
            ProvenanceError: the log or a file is damaged, or upkeep has removed the version.
        """
        delta = self._open(table)
        if delta is None:
            return TABLES[table].empty.lazy()
        if version is not None:
            try:
                delta.load_as_version(version)
            except DeltaError as error:
                text = f"The table has no version {version} any more: {error_text(error)}"
                raise ProvenanceError(text, where=self.uri(table)) from error
        return self._scan(delta, table)

    def _scan(self, delta: DeltaTable, table: str) -> pl.LazyFrame:
        return pl.scan_pyarrow_dataset(self._files(delta, table))

    def _files(self, delta: DeltaTable, table: str) -> CheckedFiles:
        schema = TABLES[table]
        storage = pafs.SubTreeFileSystem(f"tables/{schema.name}", self._storage)
        return CheckedFiles(delta, self.uri(table), schema.arrow_schema, storage)

    def slices(
        self, table: str, columns: list[str], predicate: pc.Expression
    ) -> Iterator[pl.DataFrame]:
        """Yield columns of the rows for which a predicate holds, some thousand rows at a time.

        Use it for wide columns of many rows, which do not fit into memory.

        Raises:
            LakeUnavailableError: the storage does not answer.
            ProvenanceError: the log or a file is damaged.
        """
        delta = self._open(table)
        if delta is None:
            return
        for batch in self._files(delta, table).to_batches(columns, predicate):
            yield pl.DataFrame(pl.from_arrow(batch))

    def read(self, table: str, *predicates: pl.Expr) -> pl.DataFrame:
        """Return the table's rows for which all predicates hold.

        Raises:
            LakeUnavailableError: the storage does not answer.
            ProvenanceError: the log or a file is damaged.
        """
        scan = self.scan(table)
        if predicates:
            scan = scan.filter(*predicates)
        return self.collect(scan, table)

    def collect(self, scan: pl.LazyFrame, table: str) -> pl.DataFrame:
        """Run a query over `Lake.scan(table)`; the name is for errors.

        Raises:
            LakeUnavailableError: the storage does not answer.
            ProvenanceError: a file is damaged.
            ValueError: the query reads two tables. Their reads can deadlock, because one waits for
                the interpreter lock that the other holds (polars issue 24448).
        """
        if scan.explain().count("PYTHON SCAN") > 1:
            raise ValueError("the query reads two tables: collect one of them first")
        try:
            return scan.collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise as_pipeline_error(error, self.uri(table)) from error

    def replace(self, table: str, rows: pl.DataFrame, partition: Partition) -> None:
        """Replace a partition's rows by `rows`, in one commit.

        Args:
            table: name of the table.
            rows: new rows of the partition.
            partition: column -> value; empty for the whole table.

        Raises:
            SchemaError: the rows do not match the table's schema.
            WriteConflictError: other writers won every attempt.
        """
        schema = TABLES[table]
        data = _arrow(schema.check(rows), schema.arrow_schema)
        predicate = " AND ".join(f"{column} = '{_escaped(v)}'" for column, v in partition.items())

        def commit() -> None:
            write_deltalake(
                self._prepare(table),
                data,
                mode="overwrite",
                predicate=predicate or None,
                writer_properties=WRITER,
            )

        self._retry(commit, table)

    def add(self, table: str, rows: pl.DataFrame) -> int:
        """Add the rows whose key is new in their partition; return their number.

        Raises:
            SchemaError: the rows do not match the table's schema.
            WriteConflictError: other writers won every attempt.
        """
        schema = TABLES[table]
        rows = schema.check(rows)
        if rows.is_empty():
            return 0

        def commit() -> int:
            delta = self._prepare(table)
            new = rows.join(self._keys(delta, table, rows), on=schema.identity, how="anti")
            if not new.is_empty():
                # If another writer has added rows since the keys were read, this commit fails and
                # is tried again.
                since = Transaction(_ADD_TRANSACTION, delta.version())
                write_deltalake(
                    delta,
                    _arrow(new, schema.arrow_schema),
                    mode="append",
                    writer_properties=WRITER,
                    commit_properties=CommitProperties(app_transactions=[since]),
                )
            return len(new)

        return self._retry(commit, table)

    def _keys(self, delta: DeltaTable, table: str, rows: pl.DataFrame) -> pl.DataFrame:
        """The key and partition columns of the table's rows in the partitions of `rows`."""
        schema = TABLES[table]
        held = self._scan(delta, table)
        for column in schema.partition_by:
            held = held.filter(pl.col(column).is_in(rows[column].unique().to_list()))
        return held.select(schema.identity).collect()

    def upsert(self, table: str, rows: pl.DataFrame) -> int:
        """Add the rows, replacing those with the same key; return the number of written rows.

        Raises:
            SchemaError: the rows do not match the table's schema.
            WriteConflictError: other writers won every attempt.
        """
        schema = TABLES[table]
        rows = schema.check(rows)
        if rows.is_empty():
            return 0
        data = _arrow(rows, schema.arrow_schema)
        # With literal partition values, the merge does not read files of other partitions.
        literal = [
            f"t.{column} IN ({', '.join(sql_literal(v) for v in rows[column].unique().sort())})"
            for column in schema.partition_by
        ]
        equal = [f"t.{column} = s.{column}" for column in schema.identity]

        def commit() -> int:
            delta = self._prepare(table)
            merge = delta.merge(
                data,
                predicate=" AND ".join([*literal, *equal]),
                source_alias="s",
                target_alias="t",
                writer_properties=WRITER,
            )
            merge = merge.when_matched_update_all().when_not_matched_insert_all()
            outcome = merge.execute()
            return int(outcome["num_target_rows_inserted"] + outcome["num_target_rows_updated"])

        return self._retry(commit, table)

    def delete(self, table: str, predicate: str) -> int:
        """Delete the rows for which an SQL predicate holds; return their number."""
        if self._open(table) is None:
            return 0

        def commit() -> int:
            delta = self._prepare(table)
            return int(delta.delete(predicate, writer_properties=WRITER)["num_deleted_rows"] or 0)

        return self._retry(commit, table)

    def delete_matching(self, table: str, rows: pl.DataFrame) -> int:
        """Delete the rows that equal one of `rows` in its columns; return their number."""
        return self._matching(
            table, rows, lambda merge: merge.when_matched_delete(), "num_target_rows_deleted"
        )

    def clear_matching(self, table: str, column: str, rows: pl.DataFrame) -> int:
        """Set a column to null in the rows that equal one of `rows`; return their number."""
        return self._matching(
            table,
            rows,
            lambda merge: merge.when_matched_update(updates={column: "NULL"}),
            "num_target_rows_updated",
        )

    def _matching(
        self,
        table: str,
        rows: pl.DataFrame,
        action: Callable[[TableMerger], TableMerger],
        counter: str,
    ) -> int:
        if rows.is_empty() or self._open(table) is None:
            return 0
        # A merge instead of a predicate, because a predicate would write the values into the log.
        schema = TABLES[table].arrow_schema
        source = rows.unique().to_arrow().cast(pa.schema([schema.field(c) for c in rows.columns]))

        def commit() -> int:
            delta = self._prepare(table)
            merge = delta.merge(
                source,
                predicate=" AND ".join(f"t.{column} = s.{column}" for column in rows.columns),
                source_alias="s",
                target_alias="t",
                writer_properties=WRITER,
            )
            return int(action(merge).execute()[counter])

        return self._retry(commit, table)

    def compact(self, table: str) -> tuple[int, int]:
        """Rewrite small files into large ones; return the numbers of removed and added files.

        If another compaction of the table starts meanwhile, this one stops.

        Raises:
            WriteConflictError: other writers won every attempt; the table is unchanged.
        """
        if self._open(table) is None:
            return 0, 0

        def commit() -> tuple[int, int]:
            delta = DeltaTable(self.uri(table), storage_options=self.options)
            if len(delta.file_uris()) <= max(1, len(delta.partitions())):
                return 0, 0
            # deltalake 1.6.6 lets two compactions of the same files commit, which would double each
            # row. But a commit fails if the table's properties have changed since its read. So each
            # compaction first sets a mark, and only the one with the newest mark can commit.
            mark = {_COMPACTION_MARK: uuid.uuid4().hex}
            delta.alter.set_table_properties(mark, raise_if_not_exists=False)
            try:
                marked = self._if_marked(table, mark)
                if marked is not None:
                    outcome = marked.optimize.compact(writer_properties=WRITER)
                    return int(outcome["numFilesRemoved"]), int(outcome["numFilesAdded"])
            except CommitFailedError:
                if self._if_marked(table, mark) is not None:
                    raise
            log.info("not compacting %s: another compaction has started", table)
            return 0, 0

        return self._retry(commit, table)

    def _if_marked(self, table: str, mark: Mapping[str, str]) -> DeltaTable | None:
        """The newest version of the table if its properties have the mark; otherwise None."""
        delta = DeltaTable(self.uri(table), storage_options=self.options)
        return delta if mark.items() <= delta.metadata().configuration.items() else None

    def remove_old_versions(self, table: str, keep_days: float) -> int:
        """Remove files and log entries of old versions; return the number of removed files.

        Files of killed writers, which belong to no version, are removed too. Reading a removed
        version fails from then on; reading the newest version never fails.

        Args:
            table: name of the table.
            keep_days: versions replaced within so many days stay.

        Raises:
            WriteConflictError: other writers won every attempt.
        """
        if self._open(table) is None:
            return 0
        hours = int(keep_days * 24)
        keep = {_LOG_RETENTION: f"interval {int(keep_days * 86_400)} seconds"}

        def commit() -> int:
            delta = DeltaTable(self.uri(table), storage_options=self.options)
            files = delta.vacuum(hours, enforce_retention_duration=False, dry_run=False)
            # Files of a running writer belong to no version yet either, but they are new.
            files += delta.vacuum(
                max(hours, _ORPHAN_HOURS),
                enforce_retention_duration=False,
                dry_run=False,
                full=True,
            )
            if delta.metadata().configuration.get(_LOG_RETENTION) != keep[_LOG_RETENTION]:
                delta.alter.set_table_properties(keep)
                delta = DeltaTable(self.uri(table), storage_options=self.options)
            # Then remove the log entries of the removed versions.
            delta.create_checkpoint()
            delta.cleanup_metadata()
            return len(files)

        return self._retry(commit, table)

    def delta(self, table: str) -> DeltaTable | None:
        """Return the Delta table itself, to inspect its log; None if there is none."""
        return self._open(table)

    def _open(self, table: str) -> DeltaTable | None:
        uri = self.uri(table)
        for attempt in range(1, _MAX_READS + 1):
            try:
                delta = DeltaTable(uri, storage_options=self.options)
                check_log(uri, delta.version())
                return delta
            except TableNotFoundError:
                # A disk that is not mounted must not be taken for a new lake.
                refuse_missing_lake(self.root, seen_before=self._seen_before)
                return None
            except (DeltaError, OSError) as error:
                if attempt == _MAX_READS or not may_be_log_cleanup(error):
                    raise as_pipeline_error(error, uri) from error
                log.info("opening %s again: its log was cleaned up: %s", table, error)
                time.sleep(0.05 * attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _prepare(self, table: str) -> DeltaTable:
        """The newest version of the table for a write; it has every column that may be null."""
        schema = TABLES[table]
        if self._open(table) is None:
            create_lake(self.root, seen_before=self._seen_before)
            DeltaTable.create(
                self.uri(table),
                schema=schema.arrow_schema,
                mode="ignore",
                partition_by=list(schema.partition_by),
                storage_options=self.options,
            )
            self._seen_before = True
        delta = DeltaTable(self.uri(table), storage_options=self.options)
        add_new_columns(delta, schema)
        return delta

    def _retry(self, commit: Callable[[], T], table: str) -> T:
        for attempt in range(1, self._attempts + 1):
            try:
                with set_aside_stray_writes(self.root):
                    return commit()
            except (DeltaError, OSError, ProvenanceError) as error:
                cleaned_up = attempt < _MAX_READS and may_be_log_cleanup(error)
                if not isinstance(error, CommitFailedError) and not cleaned_up:
                    if isinstance(error, ProvenanceError):
                        raise
                    raise as_pipeline_error(error, self.uri(table)) from error
                if attempt == self._attempts:
                    raise WriteConflictError(
                        f"Other writers won all {attempt} attempts: {error_text(error)}",
                        where=self.uri(table),
                    ) from error
                log.info("commit to %s conflicted with another writer, attempt %d", table, attempt)
                # A random wait, so that the same writers do not conflict again.
                time.sleep(random.uniform(0, min(2.0, 0.05 * 2**attempt)))
        raise AssertionError("unreachable: the last attempt returns or raises")


def sql_literal(value: str | dt.date) -> str:
    """Return an SQL literal for a Delta predicate, which takes no bound parameters."""
    return f"'{_escaped(value)}'"


def _escaped(value: str | dt.date) -> str:
    text = value.isoformat() if isinstance(value, dt.date) else value
    return text.replace("'", "''")


def _arrow(rows: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    return rows.to_arrow().cast(schema)
