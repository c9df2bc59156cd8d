"""Remembers which releases and datasets have no requested item, so that they are read once only."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection

from pipeline.storage.store import Store

log = logging.getLogger(__name__)

RECORD = "runs/searched.json"


class SearchedFolders:
    """The folders that an earlier erasure has read without finding an item of the same requests.

    Folders are immutable, so they need no second search until there is a new request. The record is
    only an optimisation: without it, or after a killed erasure, every folder is read again.

    Args:
        store: releases and runs.
        requested: `id_hash` of the requested ids.
    """

    def __init__(self, store: Store, requested: Collection[str]) -> None:
        self._store = store
        self._requests = hashlib.sha256("\n".join(sorted(requested)).encode()).hexdigest()
        found = store.read_pointer(RECORD)
        self._version = found[1] if found else None
        self._before = self._parse(found[0]) if found else frozenset()
        self._now: set[str] = set()

    def _parse(self, text: str) -> frozenset[str]:
        try:
            document = json.loads(text)
            same = document["requests"] == self._requests
            return frozenset(map(str, document["folders"])) if same else frozenset()
        except (ValueError, KeyError, TypeError):
            log.warning("%s is damaged: searching every release and run again", RECORD)
            return frozenset()

    def __contains__(self, name: str) -> bool:
        """Return whether a folder was searched for the same requests, and keep it recorded."""
        if name in self._before:
            self._now.add(name)
        return name in self._now

    def add(self, name: str) -> None:
        """Record that a folder has no requested item."""
        self._now.add(name)

    def save(self) -> None:
        """Write the record. Folders that are gone, or were not asked for, leave it."""
        if self._now == self._before:
            return
        document = {"requests": self._requests, "folders": sorted(self._now)}
        if not self._store.replace_pointer(RECORD, json.dumps(document) + "\n", self._version):
            log.info("%s not written: another erasure was first", RECORD)
