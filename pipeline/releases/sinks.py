"""Optional copies of the current release in a database: PostgreSQL, LanceDB.

A sink is staged before a release becomes current and activated, in one step of its own, after:
a sink that fails before leaves everything as it was, and one that fails after still serves the
old release whole until the publication is repeated.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from pipeline.errors import Transient
from pipeline.object_pointer import MissingExtraError
from pipeline.releases import files
from pipeline.releases.current import read_current
from pipeline.releases.files import read_manifest, read_table
from pipeline.settings import ReleaseSettings
from pipeline.store import Store

log = logging.getLogger(__name__)

MUSIC_COLUMNS = (*files.MUSIC_TEXTS, "cold", "embedding")
VIDEO_COLUMNS = ("video_id", "embedding")

_ROWS = 10_000


class SinkError(Transient):
    """A sink did not take the release; the current release is the one it was."""

    remedy = "Check the database that the message names; the task may be cleared at any time."


class Sink(Protocol):
    """A database that serves the current release."""

    def current(self) -> str | None:
        """The release that readers see, or None before the first."""

    def stage(self, folder: Path) -> None:
        """Load a release's embeddings where readers do not see them; may be repeated."""

    def activate(self, release_id: str) -> None:
        """Show a staged release to readers in one step, and drop every other."""


def open_sinks(settings: ReleaseSettings) -> list[Sink]:
    """The sinks that the settings name.

    Raises:
        MissingExtraError: a sink's package is not installed.
    """
    sinks: list[Sink] = []
    if settings.postgres:
        sinks.append(PostgresSink(settings.postgres))
    if settings.lancedb:
        sinks.append(LanceSink(settings.lancedb))
    return sinks


def follow(settings: ReleaseSettings, store: Store) -> None:
    """Bring every sink that is behind to the current release.

    Raises:
        SinkError: a sink did not take it.
    """
    current = read_current(store)
    if current is None:
        return
    for sink in open_sinks(settings):
        if sink.current() != current.release_id:
            sink.stage(store.fetch(f"releases/{current.release_id}"))
            sink.activate(current.release_id)
            log.info("%s serves %s", type(sink).__name__, current.release_id)


def _tables(folder: Path) -> dict[str, pa.Table]:
    run_id = read_manifest(folder).run_id
    return {
        "music": read_table(folder / files.MUSIC, run_id).select(list(MUSIC_COLUMNS)),
        "video": read_table(folder / files.VIDEO, run_id).select(list(VIDEO_COLUMNS)),
    }


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
            cursor.execute("SELECT to_regclass('debcm_release')")
            if cursor.fetchone()[0] is None:
                return None
            cursor.execute("SELECT release_id FROM debcm_release")
            row = cursor.fetchone()
            return None if row is None else str(row[0])

        found: str | None = self._transaction(ask)
        return found

    def stage(self, folder: Path) -> None:
        """Load the tables of a release under names of their own, in one transaction."""
        release_id = read_manifest(folder).release_id
        tables = _tables(folder)

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
                cursor.execute(
                    sql.SQL("CREATE OR REPLACE VIEW {} AS SELECT {} FROM {}").format(
                        sql.Identifier(f"debcm_{kind}"),
                        sql.SQL(", ").join(plain),
                        sql.Identifier(f"debcm_{kind}_{release_id}"),
                    )
                )
            cursor.execute("CREATE TABLE IF NOT EXISTS debcm_release (release_id text NOT NULL)")
            cursor.execute("DELETE FROM debcm_release")
            cursor.execute("INSERT INTO debcm_release VALUES (%s)", (release_id,))
            cursor.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
                " AND tablename ~ '^debcm_(music|video)_' AND tablename <> ALL (%s)",
                ([f"debcm_{kind}_{release_id}" for kind in ("music", "video")],),
            )
            for (name,) in cursor.fetchall():
                cursor.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(name)))

        self._transaction(switch)

    def _transaction(self, work: Any) -> Any:
        try:
            connection = self._psycopg2.connect(self._connection)
        except self._psycopg2.Error as error:
            raise SinkError(str(error).strip(), where="postgres") from error
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
        cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(identifier))
        cursor.execute(
            sql.SQL("CREATE TABLE {} ({}, PRIMARY KEY ({}))").format(
                identifier,
                sql.SQL(", ").join(columns),
                sql.Identifier(table.column_names[0]),
            )
        )
        copy = sql.SQL("COPY {} FROM STDIN WITH (FORMAT csv)").format(identifier)
        for page in _csv_pages(table, "[]" if vectors else "{}"):
            cursor.copy_expert(copy, page)


@contextmanager
def _as_ours(where: str) -> Iterator[None]:
    """LanceDB's errors, which have no class of their own, as SinkError."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise SinkError(str(error), where=where) from error


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


class LanceSink:
    """Tables `music_<release>` and `video_<release>`; table `current` names the release.

    Readers open `current` first: it changes in one commit.
    """

    def __init__(self, uri: str) -> None:
        try:
            import lancedb
        except ImportError as error:
            raise MissingExtraError("[release] lancedb needs lancedb (extra lancedb)") from error
        self._where = f"lancedb {uri}"
        with _as_ours(self._where):
            self._database: Any = lancedb.connect(uri)

    def current(self) -> str | None:
        """The release that readers see, or None before the first."""
        with _as_ours(self._where):
            if "current" not in self._names():
                return None
            rows = self._database.open_table("current").to_arrow()
        return str(rows["release_id"][0].as_py())

    def stage(self, folder: Path) -> None:
        """Write the tables of a release under names of their own."""
        release_id = read_manifest(folder).release_id
        with _as_ours(self._where):
            for kind, table in _tables(folder).items():
                self._database.create_table(f"{kind}_{release_id}", table, mode="overwrite")

    def activate(self, release_id: str) -> None:
        """Name a staged release in table `current`, then drop the tables of the others."""
        with _as_ours(self._where):
            row = pa.table({"release_id": [release_id]})
            self._database.create_table("current", row, mode="overwrite")
            keep = {"current", f"music_{release_id}", f"video_{release_id}"}
            for name in set(self._names()) - keep:
                self._database.drop_table(name)

    def _names(self) -> list[str]:
        names: list[str] = []
        token: str | None = None
        while True:
            page = self._database.list_tables(page_token=token)
            names += page.tables
            token = page.page_token
            if not token:
                return names
