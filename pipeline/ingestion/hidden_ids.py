"""Hides ids whose deletion was requested, so that no text of the quarantine has them."""

from __future__ import annotations

import re
from collections.abc import Set

from pipeline.lake.catalog import id_hash
from pipeline.lake.codes import IdKind

HIDDEN = "(deleted)"
# A quoted value of a message, or a word. A word ends at what can surround an id in a path.
_VALUE = re.compile(r"'[^']*'|[^\s\"'<>,;:/#=(){}\[\]]+")
# Where a manifest row is, at the start of a detail: its number is no id.
_PLACE = re.compile(r"^\S+ row \d+")


def is_deleted(deleted: Set[str], kind: IdKind | str, name: str | None) -> bool:
    """Return whether the deletion of an id was requested.

    Args:
        deleted: `id_hash` of the requested ids.
        kind: what the id names.
        name: the id; None if there is none.
    """
    return bool(deleted) and name is not None and id_hash(kind, name) in deleted


def hide_deleted_ids(deleted: Set[str], detail: str) -> str:
    """Replace every requested id of any kind in a detail by `HIDDEN`, except in its place.

    Args:
        deleted: `id_hash` of the requested ids.
        detail: a text that begins with file and row.
    """
    place = row_place(detail)
    return place + _hide(deleted, detail[len(place) :]) if deleted else detail


def row_place(detail: str) -> str:
    """Return file and row at the start of a detail; empty if it has none."""
    found = _PLACE.match(detail)
    return found[0] if found else ""


def _hide(deleted: Set[str], text: str) -> str:
    def hidden(found: re.Match[str]) -> str:
        value = found[0]
        quoted = value.startswith("'")
        name = value.strip("'")
        # The name of a file can be an id.
        for part in (name, name.rpartition(".")[0]):
            if any(is_deleted(deleted, kind, part) for kind in IdKind):
                return HIDDEN
        return f"'{_hide(deleted, name)}'" if quoted else value

    return _VALUE.sub(hidden, text)
