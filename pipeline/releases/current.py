"""Reads and replaces the pointer to the current release.

The pointer is one small file, releases/current.json. It holds the promotions, newest first, and
the retired releases. Every change is one compare-and-swap, repeated if another writer was first.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from pipeline.errors import ProvenanceError, ReleaseError, WriteConflictError
from pipeline.storage.store import Store

log = logging.getLogger(__name__)

POINTER = "releases/current.json"

# Promotions and retired releases that are kept: about three years of nights.
_KEPT = 1000

_ATTEMPTS = 50

# Raises if a release may not become current, given the pointer as it is.
PromotionCheck = Callable[["ReleasePointer | None"], None]


@dataclass(frozen=True)
class Promotion:
    """The event that a release became current.

    Attributes:
        release_id: the release.
        at: time, ISO 8601, UTC.
        why: who or what made it current, in one sentence.
    """

    release_id: str
    at: str
    why: str


@dataclass(frozen=True)
class ReleasePointer:
    """Content of the pointer file.

    Attributes:
        promotions: newest first; the first one is of the current release.
        retired: releases that must not become current again. They are removed, or are about to
            be: their retention has ended, or a revision without erased items replaced them.
        version: version of the file, for the compare-and-swap.
    """

    promotions: tuple[Promotion, ...]
    retired: tuple[str, ...]
    version: str

    @property
    def release_id(self) -> str:
        """Id of the current release."""
        return self.promotions[0].release_id

    @property
    def run_id(self) -> str:
        """Id of the run that trained the current release."""
        return run_id_of(self.release_id)

    def promotion_of(self, run_id: str) -> Promotion | None:
        """Return the newest promotion of a run's release; None if it was never current."""
        return next((p for p in self.promotions if run_id_of(p.release_id) == run_id), None)


def run_id_of(release_id: str) -> str:
    """Return the run that trained a release: the release id without the revision number.

    Erasing an item from release `R` writes revision `R.1`: the same model without the item.
    """
    return release_id.partition(".")[0]


def revision_of(release_id: str) -> int:
    """Return the revision number of a release; 0 as published, before any erasure."""
    return int(release_id.partition(".")[2] or 0)


def read_current(store: Store) -> ReleasePointer | None:
    """Read the pointer; None before the first release.

    Raises:
        ProvenanceError: the pointer file is damaged.
    """
    found = store.read_pointer(POINTER)
    return None if found is None else parse_pointer(*found)


def parse_pointer(text: str, version: str = "") -> ReleasePointer:
    """Parse a pointer file.

    Args:
        text: JSON.
        version: version of the file.

    Raises:
        ProvenanceError: the text is not that of a pointer.
    """
    try:
        document = json.loads(text)
        promotions = tuple(Promotion(**entry) for entry in document["promotions"])
        retired = tuple(map(str, document.get("retired", ())))
    except (ValueError, KeyError, TypeError) as error:
        raise ProvenanceError(
            f"not a valid pointer to the current release: {error}", where=POINTER
        ) from error
    if not promotions:
        raise ProvenanceError("the pointer names no release", where=POINTER)
    return ReleasePointer(promotions, retired, version)


def make_current(store: Store, release_id: str, why: str, check: PromotionCheck) -> bool:
    """Make a release current in one atomic step.

    Args:
        store: folders of the lake.
        release_id: a complete release.
        why: one sentence for the history.
        check: raises if the release may not become current, given the pointer as it is. It is
            called again on every attempt.

    Returns:
        False if the release was current already.

    Raises:
        ReleaseError: the release was retired.
        WriteConflictError: another writer was first on every attempt.
    """

    def promoted(current: ReleasePointer | None) -> ReleasePointer | None:
        if current is not None and current.release_id == release_id:
            return None
        check(current)
        if current is not None and release_id in current.retired:
            raise ReleaseError("upkeep has removed this release", where=release_id)
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        first = Promotion(release_id, now, why)
        if current is None:
            return ReleasePointer((first,), (), "")
        return replace(current, promotions=(first, *current.promotions[: _KEPT - 1]))

    switched = _change(store, promoted)
    if switched:
        log.info("current release: %s (%s)", release_id, why)
    return switched


def replace_release(store: Store, old: str, new: str) -> None:
    """Replace a release by its revision, in all promotions, and retire it.

    Args:
        store: folders of the lake.
        old: the release.
        new: its revision.

    Raises:
        WriteConflictError: another writer was first on every attempt.
    """

    def replaced(current: ReleasePointer | None) -> ReleasePointer | None:
        if current is None or old in current.retired:
            return None
        promotions = tuple(
            replace(p, release_id=new) if p.release_id == old else p for p in current.promotions
        )
        return replace(current, promotions=promotions, retired=_with(current.retired, old))

    _change(store, replaced)


def retire_releases(store: Store, choose: Callable[[ReleasePointer], list[str]]) -> list[str]:
    """Mark releases as never to be current again, so that they can be removed.

    If a release is promoted at the same time, `choose` is called again with the new pointer. So
    upkeep never removes the current release, and a removed release never becomes current.

    Args:
        store: folders of the lake.
        choose: returns the releases to retire, given the pointer as it is.

    Returns:
        The chosen releases; none before the first release is current.

    Raises:
        WriteConflictError: another writer was first on every attempt.
    """
    chosen: list[str] = []

    def retired(current: ReleasePointer | None) -> ReleasePointer | None:
        chosen[:] = choose(current) if current else []
        new = [name for name in chosen if current and name not in current.retired]
        if current is None or not new:
            return None
        return replace(current, retired=_with(current.retired, *new))

    _change(store, retired)
    return chosen


def _with(retired: tuple[str, ...], *new: str) -> tuple[str, ...]:
    return (*retired, *new)[-_KEPT:]


def _change(store: Store, change: Callable[[ReleasePointer | None], ReleasePointer | None]) -> bool:
    """Replace the pointer by the result of `change`; False if that is None (no change)."""
    for _ in range(_ATTEMPTS):
        current = read_current(store)
        changed = change(current)
        if changed is None:
            return False
        document = {
            "release_id": changed.release_id,
            "promotions": [asdict(p) for p in changed.promotions],
            "retired": changed.retired,
        }
        text = json.dumps(document, indent=1) + "\n"
        if store.replace_pointer(POINTER, text, current.version if current else None):
            return True
    raise WriteConflictError(
        f"another writer changed the pointer first, {_ATTEMPTS} times in a row", where=POINTER
    )
