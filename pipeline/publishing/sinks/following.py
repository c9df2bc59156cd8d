"""Brings every sink that the settings name to the current release."""

from __future__ import annotations

import logging

from pipeline.publishing.sinks.base import Sink
from pipeline.publishing.sinks.lancedb import LanceSink
from pipeline.publishing.sinks.postgres import PostgresSink
from pipeline.releases.current import read_current
from pipeline.settings.sections import ReleaseSettings
from pipeline.storage.store import Store

log = logging.getLogger(__name__)

_FOLLOWED = 5


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
