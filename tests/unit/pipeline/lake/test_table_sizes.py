"""Sizes of the tables, from their logs."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

from pipeline.lake.schemas import TABLES
from pipeline.lake.table_sizes import live_files, sizes
from pipeline.lake.tables import Lake

TABLE = "deletions"


def add(lake: Lake, *hashes: str) -> None:
    row: dict[str, Any] = {
        "kind": "video",
        "requested_at": dt.datetime(2026, 3, 1, tzinfo=dt.UTC),
        "dt": dt.date(2026, 3, 1),
    }
    lake.add(TABLE, TABLES[TABLE].frame([row | {"id_hash": name} for name in hashes]))


def test_only_existing_tables_have_a_size(lake: Lake, tmp_path: Path) -> None:
    assert sizes(lake) == {}
    add(lake, "a", "b")
    add(lake, "c")
    files = list((tmp_path / "lake" / "tables" / TABLE).glob("*.parquet"))
    megabytes = round(sum(path.stat().st_size for path in files) / 1e6, 3)
    expected = {"rows": 3, "files": 2, "megabytes": megabytes, "version": 2}
    assert sizes(lake) == {TABLE: expected}


def test_files_of_old_versions_are_not_live(lake: Lake, tmp_path: Path) -> None:
    add(lake, "a")
    add(lake, "b")
    lake.delete(TABLE, "id_hash = 'a'")
    delta = lake.delta(TABLE)
    assert delta is not None
    assert live_files(delta)["num_records"].to_list() == [1]
    assert len(list((tmp_path / "lake" / "tables" / TABLE).glob("*.parquet"))) == 2
