"""The rows that every sink serves, and which errors of a sink are retried."""

from __future__ import annotations

import pytest

from pipeline.errors import Permanent, ReleaseError, Transient
from pipeline.publishing.sinks.base import ForeignTableError, SinkError, release_tables
from pipeline.releases import files


def test_release_tables_have_ids_and_embeddings_and_no_uploaders(published) -> None:
    tables = release_tables(published.store.fetch(f"releases/{published.run_id}"))
    assert tables["music"].column_names == [
        *("music_id", "title", "artist", "genre", "genre_group", "cold", "embedding")
    ]
    assert tables["video"].column_names == ["video_id", "embedding"]
    assert (tables["music"].num_rows, tables["video"].num_rows) == (120, 900)


def test_a_damaged_release_is_not_copied(published) -> None:
    folder = published.store.fetch(f"releases/{published.run_id}")
    (folder / files.MUSIC).write_bytes(b"?")
    with pytest.raises(ReleaseError, match=files.MUSIC):
        release_tables(folder)


def test_an_unavailable_sink_is_retried_and_a_foreign_table_is_not() -> None:
    assert issubclass(SinkError, Transient)
    assert issubclass(ForeignTableError, Permanent)
