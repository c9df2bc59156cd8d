"""The current release in PostgreSQL."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.publishing.sinks.base import (
    MARK,
    MUSIC_COLUMNS,
    VIDEO_COLUMNS,
    ForeignTableError,
    SinkError,
    release_tables,
)
from pipeline.releases.files import read_release_info
from pipeline.storage.object_pointer import MissingExtraError

_ROWS = 10_000


class PostgresSink:
    """Views `debcm_music` and `debcm_video` over the current release's tables.

    Embeddings are pgvector's `vector` where the server has that extension, `real[]` where not.
    Views are replaced, never dropped: what was granted on them stays.
    """

    def __init__(self, connection: str) -> None:
        try:
            import psycopg2
            from psycopg2 import sql
        except ImportError as error:
            raise MissingExtraError("[release] postgres needs psycopg2 (extra postgres)") from error
        self._connection = connection
        self._psycopg2: Any = psycopg2
        self._sql: Any = sql

    def current(self) -> str | None:
        """The release that readers see, or None before the first."""

        def ask(cursor: Any) -> str | None:
            if not self._is_ours(cursor, "debcm_release"):
                return None
            cursor.execute("SELECT release_id FROM debcm_release")
            row = cursor.fetchone()
            return None if row is None else str(row[0])

        found: str | None = self._transaction(ask)
        return found

    def stage(self, folder: Path) -> None:
        """Load the tables of a release under names of their own, in one transaction."""
        release_id = read_release_info(folder).release_id
        tables = release_tables(folder)

        def load(cursor: Any) -> None:
            vectors = self._has_vectors(cursor)
            for kind, table in tables.items():
                self._load(cursor, f"debcm_{kind}_{release_id}", table, vectors=vectors)

        self._transaction(load)

    def activate(self, release_id: str) -> None:
        """Point the views at a staged release and drop the others, in one transaction."""
        sql = self._sql

        def switch(cursor: Any) -> None:
            vectors = self._has_vectors(cursor)
            for kind, columns in (("music", MUSIC_COLUMNS), ("video", VIDEO_COLUMNS)):
                # Without its dimension the column's type is the same in every release.
                plain = [
                    sql.SQL("embedding::vector AS embedding")
                    if vectors and name == "embedding"
                    else sql.Identifier(name)
                    for name in columns
                ]
                self._is_ours(cursor, f"debcm_{kind}")
                cursor.execute(
                    sql.SQL("CREATE OR REPLACE VIEW {} AS SELECT {} FROM {}").format(
                        sql.Identifier(f"debcm_{kind}"),
                        sql.SQL(", ").join(plain),
                        sql.Identifier(f"debcm_{kind}_{release_id}"),
                    )
                )
                self._mark(cursor, "VIEW", f"debcm_{kind}")
            if not self._is_ours(cursor, "debcm_release"):
                cursor.execute("CREATE TABLE debcm_release (release_id text NOT NULL)")
                self._mark(cursor, "TABLE", "debcm_release")
            cursor.execute("DELETE FROM debcm_release")
            cursor.execute("INSERT INTO debcm_release VALUES (%s)", (release_id,))
            cursor.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
                " AND tablename ~ '^debcm_(music|video)_' AND tablename <> ALL (%s)",
                ([f"debcm_{kind}_{release_id}" for kind in ("music", "video")],),
            )
            for (name,) in cursor.fetchall():
                if self._comment(cursor, name) == MARK:
                    cursor.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(name)))

        self._transaction(switch)

    def _transaction(self, work: Any) -> Any:
        connection = self._connect()
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '60s'")
                # Two publishers load and switch one after the other.
                cursor.execute("SELECT pg_advisory_xact_lock(hashtext('debcm'))")
                return work(cursor)
        except self._psycopg2.Error as error:
            raise SinkError(str(error).strip(), where="postgres") from error
        finally:
            connection.close()

    def _connect(self) -> Any:
        try:
            return self._psycopg2.connect(self._connection)
        except self._psycopg2.Error as error:
            text = str(error).strip()
        # Raised outside, so that no traceback shows the cause. Only what the network or the server
        # says is shown: of a string that it cannot read, libpq repeats a part, say the password.
        if not text.startswith("connection to server at"):
            text = "cannot be used as it is set (not shown: it may hold a password)"
        raise SinkError(text, where="[release] postgres")

    def _is_ours(self, cursor: Any, name: str) -> bool:
        """Whether a table or view is there; fails where it is not a sink's."""
        comment = self._comment(cursor, name)
        if comment not in {None, MARK}:
            raise ForeignTableError("not written by this pipeline", where=f"postgres {name}")
        return comment is not None

    def _comment(self, cursor: Any, name: str) -> str | None:
        """The comment on a table or view of the schema that is written to; None: there is none."""
        cursor.execute(
            "SELECT coalesce(obj_description(c.oid, 'pg_class'), '') FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = current_schema() AND c.relname = %s",
            (name,),
        )
        row = cursor.fetchone()
        return None if row is None else str(row[0])

    def _mark(self, cursor: Any, kind: str, name: str) -> None:
        sql = self._sql
        comment = sql.SQL("COMMENT ON {} {} IS {}").format(
            sql.SQL(kind), sql.Identifier(name), sql.Literal(MARK)
        )
        cursor.execute(comment)

    def _has_vectors(self, cursor: Any) -> bool:
        cursor.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'")
        if cursor.fetchone() is None:
            return False
        cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
        return True

    def _load(self, cursor: Any, name: str, table: pa.Table, *, vectors: bool) -> None:
        sql = self._sql
        dim = table.schema.field("embedding").type.list_size
        kinds = {"embedding": f"vector({dim})" if vectors else "real[]", "cold": "boolean"}
        columns = [
            sql.SQL("{} {} NOT NULL").format(
                sql.Identifier(column), sql.SQL(kinds.get(column, "text"))
            )
            for column in table.column_names
        ]
        identifier = sql.Identifier(name)
        if self._is_ours(cursor, name):
            cursor.execute(sql.SQL("DROP TABLE {}").format(identifier))
        cursor.execute(
            sql.SQL("CREATE TABLE {} ({}, PRIMARY KEY ({}))").format(
                identifier,
                sql.SQL(", ").join(columns),
                sql.Identifier(table.column_names[0]),
            )
        )
        self._mark(cursor, "TABLE", name)
        copy = sql.SQL("COPY {} FROM STDIN WITH (FORMAT csv)").format(identifier)
        for page in _csv_pages(table, "[]" if vectors else "{}"):
            cursor.copy_expert(copy, page)


def _csv_pages(table: pa.Table, brackets: str) -> Iterator[io.StringIO]:
    """A table as pages of CSV, vectors as text between brackets."""
    for batch in table.to_batches(max_chunksize=_ROWS):
        page = io.StringIO()
        writer = csv.writer(page, quoting=csv.QUOTE_ALL)
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            vector = ",".join(map(repr, row[-1]))
            writer.writerow([*row[:-1], f"{brackets[0]}{vector}{brackets[1]}"])
        page.seek(0)
        yield page
