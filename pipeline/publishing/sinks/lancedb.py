"""The current release in LanceDB."""

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
        release_id = read_release_info(folder).release_id
        with _as_ours(self._where):
            for kind, table in release_tables(folder).items():
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
        marked = table.replace_schema_metadata({MARK: name})
        self._database.create_table(name, marked, mode="overwrite")

    def _is_ours(self, name: str, names: list[str]) -> bool:
        """Whether a table is there; fails where it is not a sink's."""
        if name not in names:
            return False
        if not self._has_mark(name):
            raise ForeignTableError("not written by this pipeline", where=f"{self._where} {name}")
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
def _as_ours(where: str) -> Iterator[None]:
    """LanceDB's errors, which have no class of their own, as SinkError."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise SinkError(str(error), where=where) from error
