"""Compacts tables and removes their old versions."""

from __future__ import annotations

import logging
from typing import Any

from pipeline.context import Context
from pipeline.lake.schemas import TABLES

log = logging.getLogger(__name__)

# No step reads a version of a table for longer.
_SAFE_DAYS = 1


def run(context: Context) -> dict[str, Any]:
    """Compact every table: merge its small files, and remove its old versions.

    Returns:
        Table -> number of small files merged (`compacted`), of files written in their place
        (`into`), and of files of old versions removed (`forgotten`).

    Raises:
        WriteConflictError: other writers won every attempt. No data is lost.
    """
    settings, lake = context.settings, context.lake
    if settings.lake.keep_versions_days < _SAFE_DAYS:
        log.warning(
            "[lake] keep_versions_days is %g: a step that reads the lake now can fail with "
            "ProvenanceError. Clear it then, or set at least %g.",
            settings.lake.keep_versions_days,
            _SAFE_DAYS,
        )
    done = {}
    for table in TABLES:
        if lake.version(table) < 0:
            continue
        removed, added = lake.compact(table)
        forgotten = lake.remove_old_versions(table, settings.lake.keep_versions_days)
        done[table] = {"compacted": removed, "into": added, "forgotten": forgotten}
        log.info("%s: %s", table, done[table])
    return done
