"""Serves the current release from LanceDB."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.publishing.sinks.base import MARK, ForeignTableError, SinkError, release_tables
from pipeline.releases.files import read_release_info
from pipeline.storage.object_pointer import MissingExtraError


class LanceSink:
    """A sink in LanceDB: tables `music_<release>`, `video_<release>` and `current`.

    Readers open `current` first, which names the release and changes in one commit.
    """

    def __init__(self, uri: str) -> None:
        try:
            import lancedb
        except ImportError as error:
            raise MissingExtraError(
                "[release] lancedb needs the package lancedb (extra lancedb)"
            ) from error
        self._where = f"lancedb {uri}"
        with _sink_errors(self._where):
            self._database: Any = lancedb.connect(uri)

    def current(self) -> str | None:
        """Return the release that readers see, or None before the first."""
        with _sink_errors(self._where):
            if not self._exists("current", self._names()):
                return None
            rows = self._database.open_table("current").to_arrow()
        return str(rows["release_id"][0].as_py())

    def stage(self, folder: Path) -> None:
        """Write the tables of a release, under names with its id."""
        release_id = read_release_info(folder).release_id
        with _sink_errors(self._where):
            for kind, table in release_tables(folder).items():
                self._write(f"{kind}_{release_id}", table)

    def activate(self, release_id: str) -> None:
        """Name a staged release in table `current`, then drop the tables of other releases."""
        with _sink_errors(self._where):
            self._write("current", pa.table({"release_id": [release_id]}))
            keep = {f"music_{release_id}", f"video_{release_id}"}
            for name in self._names():
                is_release = name.startswith(("music_", "video_")) and name not in keep
                if is_release and self._has_mark(name):
                    self._database.drop_table(name)

    def _write(self, name: str, table: pa.Table) -> None:
        self._exists(name, self._names())
        marked = table.replace_schema_metadata({MARK: name})
        self._database.create_table(name, marked, mode="overwrite")

    def _exists(self, name: str, names: list[str]) -> bool:
        """Return whether a table exists; raise ForeignTableError if a sink did not write it."""
        if name not in names:
            return False
        if not self._has_mark(name):
            raise ForeignTableError(
                "this table was not written by the pipeline", where=f"{self._where} {name}"
            )
        return True

    def _has_mark(self, name: str) -> bool:
        return MARK.encode() in (self._database.open_table(name).schema.metadata or {})

    def _names(self) -> list[str]:
        names: list[str] = []
        token: str | None = None
        while True:
            page = self._database.list_tables(page_token=token)
            names += page.tables
            token = page.page_token
            if not token:
                return names


@contextmanager
def _sink_errors(where: str) -> Iterator[None]:
    """Raise LanceDB's errors as SinkError; LanceDB has no error class of its own."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise SinkError(str(error), where=where) from error
