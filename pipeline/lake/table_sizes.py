"""Reads the sizes of the tables from their logs."""

from __future__ import annotations

import logging
from typing import Any

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable

from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake

log = logging.getLogger(__name__)


def sizes(lake: Lake) -> dict[str, Any]:
    """Return rows, files, megabytes and version of every table that exists.

    Only the logs are read, no data files.
    """
    found = {}
    for table in TABLES:
        delta = lake.delta(table)
        if delta is None:
            continue
        files = live_files(delta)
        found[table] = {
            "rows": int(files["num_records"].sum()),
            "files": len(files),
            "megabytes": round(int(files["size_bytes"].sum()) / 1e6, 3),
            "version": int(delta.version()),
        }
        log.info("%s: %s", table, found[table])
    return found


def live_files(delta: DeltaTable) -> pl.DataFrame:
    """Return the files of the newest version: path, size_bytes, num_records, partition values."""
    files = pl.DataFrame(pl.from_arrow(pa.table(delta.get_add_actions(flatten=True))))
    return files.rename({name: name.removeprefix("partition.") for name in files.columns})
