"""Which release is current: one small file, replaced in one step, that also keeps its history."""

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

_HISTORY = 1000
"""Promotions that are remembered: about three years of nights."""

_ATTEMPTS = 50

Check = Callable[["ReleasePointer | None"], None]


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
class ReleasePointer:
    """The pointer as it was read.

    Attributes:
        promotions: newest first; the first one is the current release.
        retired: releases that are removed, or about to be, and never made current again: past
            their time, or written again without erased items.
        version: what the pointer's replacement is compared with.
    """

    promotions: tuple[Promotion, ...]
    retired: tuple[str, ...]
    version: str

    @property
    def release_id(self) -> str:
        """The current release."""
        return self.promotions[0].release_id

    @property
    def run_id(self) -> str:
        """The run that trained the current release."""
        return run_id_of(self.release_id)

    def promotion_of(self, run_id: str) -> Promotion | None:
        """The newest promotion of a run's release, or None where it never was current."""
        return next((p for p in self.promotions if run_id_of(p.release_id) == run_id), None)


def run_id_of(release_id: str) -> str:
    """The run that trained a release: its id without the number of the revision.

    Erasing an item from release `R` makes `R.1`, the same model without that item.
    """
    return release_id.partition(".")[0]


def revision_of(release_id: str) -> int:
    """How often items were erased from a release: 0 as published."""
    return int(release_id.partition(".")[2] or 0)


def read_current(store: Store) -> ReleasePointer | None:
    """The pointer, or None before the first release.

    Raises:
        ProvenanceError: the pointer file is damaged.
    """
    found = store.read_pointer(POINTER)
    return None if found is None else parse_pointer(*found)


def parse_pointer(text: str, version: str = "") -> ReleasePointer:
    """What a pointer file says.

    Raises:
        ProvenanceError: it is not one.
    """
    try:
        document = json.loads(text)
        promotions = tuple(Promotion(**entry) for entry in document["promotions"])
        retired = tuple(map(str, document.get("retired", ())))
    except (ValueError, KeyError, TypeError) as error:
        raise ProvenanceError(f"not a pointer: {error}", where=POINTER) from error
    if not promotions:
        raise ProvenanceError("names no release", where=POINTER)
    return ReleasePointer(promotions, retired, version)


def make_current(store: Store, release_id: str, why: str, check: Check) -> bool:
    """Make a release current, in one atomic step; False where it already was.

    Args:
        store: where the releases lie.
        release_id: a complete release.
        why: one sentence for the history.
        check: raises where the switch may not happen from the pointer as it is; called again
            whenever another writer was first.

    Raises:
        ReleaseError: the release was removed meanwhile.
        WriteConflictError: other writers won every attempt.
    """

    def promoted(current: ReleasePointer | None) -> ReleasePointer | None:
        if current is not None and current.release_id == release_id:
            return None
        check(current)
        if current is not None and release_id in current.retired:
            raise ReleaseError("upkeep has removed it meanwhile", where=release_id)
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        first = Promotion(release_id, now, why)
        if current is None:
            return ReleasePointer((first,), (), "")
        return replace(current, promotions=(first, *current.promotions[: _HISTORY - 1]))

    switched = _change(store, promoted)
    if switched:
        log.info("current release: %s (%s)", release_id, why)
    return switched


def replace_release(store: Store, old: str, new: str) -> None:
    """Put a release in another's place, in the present and in the history, and retire it.

    Raises:
        WriteConflictError: other writers won every attempt.
    """

    def renamed(current: ReleasePointer | None) -> ReleasePointer | None:
        if current is None or old in current.retired:
            return None
        promotions = tuple(
            replace(p, release_id=new) if p.release_id == old else p for p in current.promotions
        )
        return replace(current, promotions=promotions, retired=_with(current.retired, old))

    _change(store, renamed)


def retire_releases(store: Store, choose: Callable[[ReleasePointer], list[str]]) -> list[str]:
    """Choose the releases that are never made current again, so that they can be removed.

    A promotion that comes between the choice and its record makes the choice anew: neither does
    upkeep remove what became current, nor becomes current what upkeep removes.

    Args:
        store: where the releases lie.
        choose: the releases to retire, from the pointer as it is.

    Returns:
        What was chosen; nothing before the first release is current.

    Raises:
        WriteConflictError: other writers won every attempt.
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
    return (*retired, *new)[-_HISTORY:]


def _change(store: Store, change: Callable[[ReleasePointer | None], ReleasePointer | None]) -> bool:
    """Replace the pointer by what `change` makes of it; False where that is None: no change."""
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
    raise WriteConflictError("other writers won every attempt", where=POINTER)
