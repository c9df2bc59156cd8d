"""The tables: Parquet files under a Delta Lake log, read with polars.

A table changes only by whole commits: a partition is replaced, or rows whose key is new are
added. Either may be repeated, or done by two writers at once, and leaves the same rows.
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
from pipeline.lake.schemas import TABLES
from pipeline.settings.sections import LakeSettings
from pipeline.storage.checked_parquet import WRITER, CheckedFiles
from pipeline.storage.delta_log_check import check_log
from pipeline.storage.filesystem import filesystem
from pipeline.storage.presence import create_lake, lake_exists, refuse_missing_lake
from pipeline.storage.storage_errors import as_pipeline_error, may_be_log_cleanup
from pipeline.storage.stray_writes import set_aside_stray_writes

log = logging.getLogger(__name__)

T = TypeVar("T")
_LOG_RETENTION = "delta.logRetentionDuration"
_COMPACTION = "debcm.compaction"
_ORPHAN_HOURS = 24
# Delta lets one of two commits through that carry the same name and saw the same version.
_ADDITION = "add"
# Upkeep may remove old entries of the log between a listing of it and the reading.
_LOOKS = 5
Partition = Mapping[str, str | dt.date]


class Lake:
    """The tables of pipeline/lake/schemas.py under one root (a folder, or s3://)."""

    def __init__(self, settings: LakeSettings) -> None:
        self.root = settings.root.rstrip("/")
        self.options = dict(settings.storage_options)
        self._attempts = settings.commit_attempts
        storage, base = filesystem(self.root, self.options)
        self._storage = pafs.SubTreeFileSystem(base, storage)
        self._seen_before = lake_exists(self.root)

    def uri(self, table: str) -> str:
        """Where the table lies."""
        return f"{self.root}/tables/{TABLES[table].name}"

    def version(self, table: str) -> int:
        """Version of the table's log, -1 where the table does not exist yet."""
        delta = self._open(table)
        return -1 if delta is None else int(delta.version())

    def scan(self, table: str, version: int | None = None) -> pl.LazyFrame:
        """The table's rows; no rows where it does not exist yet.

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
                text = f"no version {version}: {error}"
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
        """Some columns of the rows for which a predicate holds, some thousand rows at a time.

        For wide columns of many rows, which are never in memory as a whole.

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
        """The table's rows for which all predicates hold.

        Raises:
            LakeUnavailableError: the storage does not answer.
            ProvenanceError: the log or a file is damaged.
        """
        scan = self.scan(table)
        if predicates:
            scan = scan.filter(*predicates)
        return self.collect(scan, table)

    def collect(self, scan: pl.LazyFrame, table: str) -> pl.DataFrame:
        """`scan.collect()` of a query over one table, with storage errors as ours.

        Raises:
            ValueError: over two: their reads may wait for each other for ever, one for the
                interpreter that the other holds (polars issue 24448).
        """
        if scan.explain().count("PYTHON SCAN") > 1:
            raise ValueError("a query over two tables: collect one of them first")
        try:
            return scan.collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise as_pipeline_error(error, self.uri(table)) from error

    def replace(self, table: str, rows: pl.DataFrame, partition: Partition) -> None:
        """Replace a partition's rows by `rows`, in one commit.

        Raises:
            SchemaError: the rows break the field table, or lie outside the partition.
            WriteConflictError: other writers won every attempt.
        """
        schema = TABLES[table]
        data = _arrow(schema.check(rows), schema.arrow_schema)
        predicate = " AND ".join(f"{column} = '{_quoted(v)}'" for column, v in partition.items())

        def commit() -> None:
            self._create(table)
            write_deltalake(
                self.uri(table),
                data,
                mode="overwrite",
                predicate=predicate or None,
                storage_options=self.options,
                writer_properties=WRITER,
            )

        self._retry(commit, table)

    def add(self, table: str, rows: pl.DataFrame) -> int:
        """Add the rows whose key the table does not hold yet; return how many those were.

        Raises:
            SchemaError: the rows break the field table.
            WriteConflictError: other writers won every attempt.
        """
        schema = TABLES[table]
        rows = schema.check(rows)
        if rows.is_empty():
            return 0

        def commit() -> int:
            self._create(table)
            delta = DeltaTable(self.uri(table), storage_options=self.options)
            new = rows.join(self._keys(delta, table, rows), on=schema.identity, how="anti")
            if not new.is_empty():
                # Another's addition since the keys were read makes this one fail, and look again.
                since = Transaction(_ADDITION, delta.version())
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
        """What identifies the rows that the table holds in the partitions of `rows`."""
        schema = TABLES[table]
        held = self._scan(delta, table)
        for column in schema.partition_by:
            held = held.filter(pl.col(column).is_in(rows[column].unique().to_list()))
        return held.select(schema.identity).collect()

    def upsert(self, table: str, rows: pl.DataFrame) -> int:
        """Add the rows, in place of those with the same key; return how many changed.

        Raises:
            SchemaError: the rows break the field table.
            WriteConflictError: other writers won every attempt.
        """
        schema = TABLES[table]
        rows = schema.check(rows)
        if rows.is_empty():
            return 0
        data = _arrow(rows, schema.arrow_schema)
        # Literal partition values let the merge leave other partitions' files unread.
        literal = [
            f"t.{column} IN ({', '.join(sql_literal(v) for v in rows[column].unique().sort())})"
            for column in schema.partition_by
        ]
        equal = [f"t.{column} = s.{column}" for column in schema.identity]

        def commit() -> int:
            self._create(table)
            delta = DeltaTable(self.uri(table), storage_options=self.options)
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
        """Delete the rows for which an SQL predicate holds; return how many those were."""
        if self._open(table) is None:
            return 0

        def commit() -> int:
            delta = DeltaTable(self.uri(table), storage_options=self.options)
            return int(delta.delete(predicate, writer_properties=WRITER)["num_deleted_rows"] or 0)

        return self._retry(commit, table)

    def delete_matching(self, table: str, rows: pl.DataFrame) -> int:
        """Delete the rows that equal one of `rows` in its columns; return how many those were."""
        return self._matching(
            table, rows, lambda merge: merge.when_matched_delete(), "num_target_rows_deleted"
        )

    def clear_matching(self, table: str, column: str, rows: pl.DataFrame) -> int:
        """Make a column null where a row equals one of `rows`; return how many those were."""
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
        # A join, not a predicate: the values themselves must not enter the log.
        schema = TABLES[table].arrow_schema
        source = rows.unique().to_arrow().cast(pa.schema([schema.field(c) for c in rows.columns]))

        def commit() -> int:
            delta = DeltaTable(self.uri(table), storage_options=self.options)
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
        """Rewrite small files into large ones; return files removed and added.

        Where another compaction of the table begins meanwhile, the work is left to that one.

        Raises:
            WriteConflictError: other writers won every attempt; nothing is lost.
        """
        if self._open(table) is None:
            return 0, 0

        def commit() -> tuple[int, int]:
            delta = DeltaTable(self.uri(table), storage_options=self.options)
            if len(delta.file_uris()) <= max(1, len(delta.partitions())):
                return 0, 0
            # Of the same files, the engine lets two compactions commit (deltalake 1.6.6), and every
            # row would be there twice. But no commit passes a change of the table's properties that
            # it has not seen: of several, the one whose mark came last compacts.
            mark = {_COMPACTION: uuid.uuid4().hex}
            delta.alter.set_table_properties(mark, raise_if_not_exists=False)
            try:
                marked = self._marked(table, mark)
                if marked is not None:
                    outcome = marked.optimize.compact(writer_properties=WRITER)
                    return int(outcome["numFilesRemoved"]), int(outcome["numFilesAdded"])
            except CommitFailedError:
                if self._marked(table, mark) is not None:
                    raise
            log.info("%s is left to another compaction, which began later", table)
            return 0, 0

        return self._retry(commit, table)

    def _marked(self, table: str, mark: Mapping[str, str]) -> DeltaTable | None:
        """The table as it is, if its properties hold a mark."""
        delta = DeltaTable(self.uri(table), storage_options=self.options)
        return delta if mark.items() <= delta.metadata().configuration.items() else None

    def remove_old_versions(self, table: str, keep_days: float) -> int:
        """Remove files and log entries of versions older than `keep_days`; return the files.

        Files that no version names, which killed writers left, go with them. A reader of such a
        version fails from then on; readers of the newest one never do.

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
            # What a writer is about to commit is in no version either, but its file is young.
            files += delta.vacuum(
                max(hours, _ORPHAN_HOURS),
                enforce_retention_duration=False,
                dry_run=False,
                full=True,
            )
            if delta.metadata().configuration.get(_LOG_RETENTION) != keep[_LOG_RETENTION]:
                delta.alter.set_table_properties(keep)
                delta = DeltaTable(self.uri(table), storage_options=self.options)
            # Then the log's entries for what is gone.
            delta.create_checkpoint()
            delta.cleanup_metadata()
            return len(files)

        return self._retry(commit, table)

    def delta(self, table: str) -> DeltaTable | None:
        """The Delta table itself, to look at its log; None where there is none."""
        return self._open(table)

    def _open(self, table: str) -> DeltaTable | None:
        uri = self.uri(table)
        for look in range(1, _LOOKS + 1):
            try:
                delta = DeltaTable(uri, storage_options=self.options)
                check_log(uri, delta.version())
                return delta
            except TableNotFoundError:
                # A disk that is not mounted must not look like a lake that is still empty.
                refuse_missing_lake(self.root, seen_before=self._seen_before)
                return None
            except (DeltaError, OSError) as error:
                if look == _LOOKS or not may_be_log_cleanup(error):
                    raise as_pipeline_error(error, uri) from error
                log.info("%s was cleaned up while it was opened: %s", table, error)
                time.sleep(0.05 * look)
        raise AssertionError("unreachable: the last look returns or raises")

    def _create(self, table: str) -> None:
        if self._open(table) is None:
            create_lake(self.root, seen_before=self._seen_before)
            schema = TABLES[table]
            DeltaTable.create(
                self.uri(table),
                schema=schema.arrow_schema,
                mode="ignore",
                partition_by=list(schema.partition_by),
                storage_options=self.options,
            )
            self._seen_before = True

    def _retry(self, commit: Callable[[], T], table: str) -> T:
        for attempt in range(1, self._attempts + 1):
            try:
                with set_aside_stray_writes(self.root):
                    return commit()
            except (DeltaError, OSError, ProvenanceError) as error:
                overtaken = attempt < _LOOKS and may_be_log_cleanup(error)
                if not isinstance(error, CommitFailedError) and not overtaken:
                    if isinstance(error, ProvenanceError):
                        raise
                    raise as_pipeline_error(error, self.uri(table)) from error
                if attempt == self._attempts:
                    raise WriteConflictError(str(error), where=self.uri(table)) from error
                log.info("commit to %s met another writer's, attempt %d", table, attempt)
                # Two writers that wait equally long would meet again.
                time.sleep(random.uniform(0, min(2.0, 0.05 * 2**attempt)))
        raise AssertionError("unreachable: the last attempt returns or raises")


def sql_literal(value: str | dt.date) -> str:
    """A literal for a Delta predicate: the engine takes no bound parameters."""
    return f"'{_quoted(value)}'"


def _quoted(value: str | dt.date) -> str:
    text = value.isoformat() if isinstance(value, dt.date) else value
    return text.replace("'", "''")


def _arrow(rows: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    return rows.to_arrow().cast(schema)
