"""Defines the interface of a sink: a database that serves a copy of the current release.

A release is staged in every sink before it becomes current, and activated afterwards, in one
atomic step per sink. If staging fails, nothing changes. If activation fails, the sink serves the
previous release, complete, until the publication is repeated.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pyarrow as pa

from pipeline.errors import Permanent, Transient
from pipeline.releases import files
from pipeline.releases.files import read_release_info, read_table

MUSIC_COLUMNS = (*files.MUSIC_TEXTS, "cold", "embedding")
VIDEO_COLUMNS = ("video_id", "embedding")

# Marks the tables that a sink wrote: a comment in PostgreSQL, a metadata key in LanceDB.
MARK = "debcm release"


class SinkError(Transient):
    """A sink did not accept a release, or does not answer. Readers of the sink are not affected."""

    remedy = "Check the database that the message names, then clear the task."


class ForeignTableError(Permanent):
    """The database has a table or view with the name of a sink's table, not written by a sink."""

    remedy = (
        "Rename that table, or use another database or schema in `[release]`; then clear the task."
    )


class Sink(Protocol):
    """A database that serves a copy of the current release."""

    def current(self) -> str | None:
        """Return the release that readers see, or None before the first."""

    def stage(self, folder: Path) -> None:
        """Load a release's embeddings where readers do not see them. Idempotent."""

    def activate(self, release_id: str) -> None:
        """Switch readers to a staged release in one step, and drop the sink's other releases."""


def release_tables(folder: Path) -> dict[str, pa.Table]:
    """Return the rows of a release folder by kind: "music" and "video"."""
    run_id = read_release_info(folder).run_id
    return {
        "music": read_table(folder / files.MUSIC, run_id).select(list(MUSIC_COLUMNS)),
        "video": read_table(folder / files.VIDEO, run_id).select(list(VIDEO_COLUMNS)),
    }
