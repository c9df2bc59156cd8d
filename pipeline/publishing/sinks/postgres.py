"""Serves the current release from PostgreSQL."""

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

_ROWS_PER_COPY = 10_000


class PostgresSink:
    """A sink in PostgreSQL: views `debcm_music` and `debcm_video` over the release's tables.

    Embeddings keep the type that the views have. For the first release it is pgvector's `vector` if
    that extension is installed in the database, else `real[]`; the sink creates no extension.
    The views are replaced and never dropped, so that grants on them stay.
    """

    def __init__(self, connection: str) -> None:
        try:
            import psycopg2
            from psycopg2 import sql
        except ImportError as error:
            raise MissingExtraError(
                "[release] postgres needs the package psycopg2 (extra postgres)"
            ) from error
        self._connection = connection
        self._psycopg2: Any = psycopg2
        self._sql: Any = sql

    def current(self) -> str | None:
        """Return the release that readers see, or None before the first."""

        def ask(cursor: Any) -> str | None:
            if not self._exists(cursor, "debcm_release"):
                return None
            cursor.execute("SELECT release_id FROM debcm_release")
            row = cursor.fetchone()
            return None if row is None else str(row[0])

        found: str | None = self._transaction(ask)
        return found

    def stage(self, folder: Path) -> None:
        """Load the tables of a release, under names with its id, in one transaction."""
        release_id = read_release_info(folder).release_id
        tables = release_tables(folder)

        def load(cursor: Any) -> None:
            vectors = self._uses_vectors(cursor)
            for kind, table in tables.items():
                self._load(cursor, f"debcm_{kind}_{release_id}", table, vectors=vectors)

        self._transaction(load)

    def activate(self, release_id: str) -> None:
        """Point the views to a staged release and drop other releases, in one transaction."""
        sql = self._sql

        def switch(cursor: Any) -> None:
            vectors = self._uses_vectors(cursor)
            for kind, columns in (("music", MUSIC_COLUMNS), ("video", VIDEO_COLUMNS)):
                # Replacing a view requires equal column types. The dimension is part of the type,
                # and a table may have been staged before its view had a type.
                embedding = sql.SQL("embedding::{} AS embedding").format(
                    sql.SQL("vector" if vectors else "real[]")
                )
                selected = [
                    embedding if name == "embedding" else sql.Identifier(name) for name in columns
                ]
                self._exists(cursor, f"debcm_{kind}")
                cursor.execute(
                    sql.SQL("CREATE OR REPLACE VIEW {} AS SELECT {} FROM {}").format(
                        sql.Identifier(f"debcm_{kind}"),
                        sql.SQL(", ").join(selected),
                        sql.Identifier(f"debcm_{kind}_{release_id}"),
                    )
                )
                self._mark(cursor, "VIEW", f"debcm_{kind}")
            if not self._exists(cursor, "debcm_release"):
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
                # Lets only one publisher at a time load and switch.
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
        # Raised outside the except block, so that no traceback shows the cause. Only messages of
        # the network and the server are shown: when libpq cannot parse a connection string, it
        # repeats a part of it, which can be the password.
        if not text.startswith("connection to server at"):
            text = (
                "the connection string is malformed or names an unknown host (not shown: it can "
                "contain a password)"
            )
        raise SinkError(text, where="[release] postgres")

    def _exists(self, cursor: Any, name: str) -> bool:
        """Return whether a table or view exists; raise ForeignTableError if it is not a sink's."""
        comment = self._comment(cursor, name)
        if comment not in {None, MARK}:
            raise ForeignTableError(
                "this table or view was not written by the pipeline", where=f"postgres {name}"
            )
        return comment is not None

    def _comment(self, cursor: Any, name: str) -> str | None:
        """Return the comment on a table or view in the current schema, None if none exists."""
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

    def _uses_vectors(self, cursor: Any) -> bool:
        """Return whether embeddings have the type `vector`: that of the views, if there are any.

        An extension that appears later must not change the type: PostgreSQL then refuses to replace
        the views.
        """
        cursor.execute(
            "SELECT format_type(a.atttypid, NULL) FROM pg_attribute a"
            " JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = current_schema() AND c.relkind = 'v' AND a.attname = 'embedding'"
            " AND c.relname IN ('debcm_music', 'debcm_video')"
        )
        found = cursor.fetchone()
        if found is not None:
            # With its schema if that is not on the search path.
            return str(found[0]).rpartition(".")[2] == "vector"
        cursor.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'")
        return cursor.fetchone() is not None

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
        if self._exists(cursor, name):
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
    """Yield a table as CSV in pages; vectors are text between brackets."""
    for batch in table.to_batches(max_chunksize=_ROWS_PER_COPY):
        page = io.StringIO()
        writer = csv.writer(page, quoting=csv.QUOTE_ALL)
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            vector = ",".join(map(repr, row[-1]))
            writer.writerow([*row[:-1], f"{brackets[0]}{vector}{brackets[1]}"])
        page.seek(0)
        yield page
