"""Opens the sinks that the settings name and updates them to the current release."""

from __future__ import annotations

import logging

from pipeline.publishing.sinks.base import Sink
from pipeline.publishing.sinks.lancedb import LanceSink
from pipeline.publishing.sinks.postgres import PostgresSink
from pipeline.releases.current import read_current
from pipeline.settings.sections import ReleaseSettings
from pipeline.storage.store import Store

log = logging.getLogger(__name__)

# How often a sink is checked again because another publisher can have changed it.
_MAX_UPDATES = 5


def open_sinks(settings: ReleaseSettings) -> list[Sink]:
    """Return the sinks that the settings name.

    Raises:
        MissingExtraError: a sink's package is not installed.
    """
    sinks: list[Sink] = []
    if settings.postgres:
        sinks.append(PostgresSink(settings.postgres))
    if settings.lancedb:
        sinks.append(LanceSink(settings.lancedb))
    return sinks


def update_sinks(settings: ReleaseSettings, store: Store, *, drop_staged: bool = False) -> None:
    """Update every sink that does not serve the current release.

    Args:
        settings: section `[release]`, which names the sinks.
        store: the store with the releases.
        drop_staged: also drop releases that unfinished publications have staged.

    Raises:
        SinkError: a sink did not accept the release.
        ForeignTableError: a table with that name was not written by a sink.
    """
    for sink in open_sinks(settings):
        drop = drop_staged
        # Repeat until the sink serves the current release: another publisher can interfere.
        for _ in range(_MAX_UPDATES):
            current = read_current(store)
            outdated = current is not None and sink.current() != current.release_id
            if current is None or not (outdated or drop):
                break
            if outdated:
                sink.stage(store.fetch(f"releases/{current.release_id}"))
            # Activation also drops every other staged release.
            sink.activate(current.release_id)
            drop = False
            log.info("%s now serves %s", type(sink).__name__, current.release_id)
