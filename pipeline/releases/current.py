"""Which release is current: one small file, replaced in one step, that also keeps its history."""

from __future__ import annotations

import datetime as dt
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass

from pipeline.errors import ProvenanceError, WriteConflictError
from pipeline.store import Store

log = logging.getLogger(__name__)

POINTER = "releases/current.json"

_HISTORY = 1000
"""Promotions that are remembered: about three years of nights."""

_ATTEMPTS = 50


@dataclass(frozen=True)
class Promotion:
    """A release became current.

    Attributes:
        release_id: the release.
        at: when, ISO 8601, UTC.
        why: who or what made it current, in one sentence.
    """

    release_id: str
    at: str
    why: str


@dataclass(frozen=True)
class Current:
    """The pointer as it was read.

    Attributes:
        promotions: newest first; the first one is the current release.
        version: what the pointer's replacement is compared with.
    """

    promotions: tuple[Promotion, ...]
    version: str

    @property
    def release_id(self) -> str:
        """The current release."""
        return self.promotions[0].release_id

    @property
    def run_id(self) -> str:
        """The run that trained the current release."""
        return run_of(self.release_id)

    def promotion_of(self, run_id: str) -> Promotion | None:
        """The newest promotion of a run's release, or None where it never was current."""
        return next((p for p in self.promotions if run_of(p.release_id) == run_id), None)


def run_of(release_id: str) -> str:
    """The run that trained a release: its id without the number of the revision.

    Erasing an item from release `R` makes `R.1`, the same model without that item.
    """
    return release_id.partition(".")[0]


def revision_of(release_id: str) -> int:
    """How often items were erased from a release: 0 as published."""
    return int(release_id.partition(".")[2] or 0)


def read_current(store: Store) -> Current | None:
    """The pointer, or None before the first release.

    Raises:
        ProvenanceError: the pointer file is damaged.
    """
    found = store.read_pointer(POINTER)
    return None if found is None else Current(parse_pointer(found[0]), found[1])


def parse_pointer(text: str) -> tuple[Promotion, ...]:
    """The promotions in a pointer file, newest first.

    Raises:
        ProvenanceError: it is not one.
    """
    try:
        promotions = tuple(Promotion(**entry) for entry in json.loads(text)["promotions"])
    except (ValueError, KeyError, TypeError) as error:
        raise ProvenanceError(f"not a pointer: {error}", where=POINTER) from error
    if not promotions:
        raise ProvenanceError("names no release", where=POINTER)
    return promotions


def make_current(
    store: Store, release_id: str, why: str, check: Callable[[Current | None], None]
) -> bool:
    """Make a release current, in one atomic step; False where it already was.

    Args:
        store: where the releases lie.
        release_id: a complete release.
        why: one sentence for the history.
        check: raises where the switch may not happen from the pointer as it is; called again
            whenever another writer was first.

    Raises:
        WriteConflictError: other writers won every attempt.
    """
    for _ in range(_ATTEMPTS):
        current = read_current(store)
        if current is not None and current.release_id == release_id:
            return False
        check(current)
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        kept = () if current is None else current.promotions[: _HISTORY - 1]
        if _write(store, (Promotion(release_id, now, why), *kept), current):
            log.info("current release: %s (%s)", release_id, why)
            return True
    raise WriteConflictError("other writers won every attempt", where=POINTER)


def rename_current(store: Store, old: str, new: str) -> None:
    """Put a release in another's place, in the present and in the history.

    Raises:
        WriteConflictError: other writers won every attempt.
    """
    for _ in range(_ATTEMPTS):
        current = read_current(store)
        if current is None or all(p.release_id != old for p in current.promotions):
            return
        renamed = tuple(
            Promotion(new, p.at, p.why) if p.release_id == old else p for p in current.promotions
        )
        if _write(store, renamed, current):
            return
    raise WriteConflictError("other writers won every attempt", where=POINTER)


def _write(store: Store, promotions: tuple[Promotion, ...], over: Current | None) -> bool:
    document = {
        "release_id": promotions[0].release_id,
        "promotions": [asdict(p) for p in promotions],
    }
    text = json.dumps(document, indent=1) + "\n"
    return store.replace_pointer(POINTER, text, over.version if over else None)
