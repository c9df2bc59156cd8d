"""What a sink is: a database that serves the current release, staged and then activated.

A sink is staged before a release becomes current and activated, in one step of its own, after:
a sink that fails before leaves everything as it was, and one that fails after still serves the
old release whole until the publication is repeated.
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

# What a sink's own tables are known by: a comment in PostgreSQL, a field's name in LanceDB.
MARK = "debcm release"


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


def release_tables(folder: Path) -> dict[str, pa.Table]:
    """Return the rows of a release by kind, music and video."""
    run_id = read_release_info(folder).run_id
    return {
        "music": read_table(folder / files.MUSIC, run_id).select(list(MUSIC_COLUMNS)),
        "video": read_table(folder / files.VIDEO, run_id).select(list(VIDEO_COLUMNS)),
    }
