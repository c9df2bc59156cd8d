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

from pipeline.errors import Permanent, Transient
from pipeline.releases import files
from pipeline.releases.current import read_current
from pipeline.releases.files import read_manifest, read_table
from pipeline.settings import ReleaseSettings
from pipeline.storage.object_pointer import MissingExtraError
from pipeline.storage.store import Store

log = logging.getLogger(__name__)

MUSIC_COLUMNS = (*files.MUSIC_TEXTS, "cold", "embedding")
VIDEO_COLUMNS = ("video_id", "embedding")

_ROWS = 10_000
# What a sink's own tables are known by: a comment in PostgreSQL, a field's name in LanceDB.
_MARK = "debcm release"
_FOLLOWED = 5


class SinkError(Transient):
    """A sink did not take the release; the current release is the one it was."""

    remedy = "Check the database that the message names; the task may be cleared at any time."


class ForeignTableError(Permanent):
    """A table or view of a sink's name is there, and no sink has written it."""

    remedy = "Rename it, or give `[release]` a database or schema of its own; then clear the task."


class Sink(Protocol):
    """A database that serves the current release."""

    def current(self) -> str | None:
        """The release that readers see, or None before the first."""

    def stage(self, folder: Path) -> None:
        """Load a release's embeddings where readers do not see them; may be repeated."""

    def activate(self, release_id: str) -> None:
        """Show a staged release to readers in one step, and drop every other of the sink's own."""


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


def follow(settings: ReleaseSettings, store: Store, *, tidy: bool = False) -> None:
    """Bring every sink that is behind to the current release.

    Args:
        settings: which sinks there are.
        store: where the releases lie.
        tidy: also drop what unfinished publications have staged.

    Raises:
        SinkError: a sink did not take it.
        ForeignTableError: a table of that name is somebody else's.
    """
    for sink in open_sinks(settings):
        untidy = tidy
        # Until it serves what is current: another publisher may have been here meanwhile.
        for _ in range(_FOLLOWED):
            current = read_current(store)
            behind = current is not None and sink.current() != current.release_id
            if current is None or not (behind or untidy):
                break
            if behind:
                sink.stage(store.fetch(f"releases/{current.release_id}"))
            sink.activate(current.release_id)
            untidy = False
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
            if not self._is_ours(cursor, "debcm_release"):
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
                if self._comment(cursor, name) == _MARK:
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
        if comment not in {None, _MARK}:
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
            sql.SQL(kind), sql.Identifier(name), sql.Literal(_MARK)
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
            if not self._is_ours("current", self._names()):
                return None
            rows = self._database.open_table("current").to_arrow()
        return str(rows["release_id"][0].as_py())

    def stage(self, folder: Path) -> None:
        """Write the tables of a release under names of their own."""
        release_id = read_manifest(folder).release_id
        with _as_ours(self._where):
            for kind, table in _tables(folder).items():
                self._write(f"{kind}_{release_id}", table)

    def activate(self, release_id: str) -> None:
        """Name a staged release in table `current`, then drop the tables of the others."""
        with _as_ours(self._where):
            self._write("current", pa.table({"release_id": [release_id]}))
            keep = {f"music_{release_id}", f"video_{release_id}"}
            for name in self._names():
                is_release = name.startswith(("music_", "video_")) and name not in keep
                if is_release and self._has_mark(name):
                    self._database.drop_table(name)

    def _write(self, name: str, table: pa.Table) -> None:
        self._is_ours(name, self._names())
        marked = table.replace_schema_metadata({_MARK: name})
        self._database.create_table(name, marked, mode="overwrite")

    def _is_ours(self, name: str, names: list[str]) -> bool:
        """Whether a table is there; fails where it is not a sink's."""
        if name not in names:
            return False
        if not self._has_mark(name):
            raise ForeignTableError("not written by this pipeline", where=f"{self._where} {name}")
        return True

    def _has_mark(self, name: str) -> bool:
        return _MARK.encode() in (self._database.open_table(name).schema.metadata or {})

    def _names(self) -> list[str]:
        names: list[str] = []
        token: str | None = None
        while True:
            page = self._database.list_tables(page_token=token)
            names += page.tables
            token = page.page_token
            if not token:
                return names
