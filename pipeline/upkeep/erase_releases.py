"""Erases items from releases: writes each release again without them, as a new revision.

A revision has its own id and replaces the old release in one atomic step.
"""

from __future__ import annotations

import json
import shutil

from pipeline.errors import ProvenanceError, ReleaseError
from pipeline.publishing.release_contents import ReleaseContents, write_release_files
from pipeline.releases import files
from pipeline.releases.current import (
    ReleasePointer,
    read_current,
    replace_release,
    revision_of,
    run_id_of,
)
from pipeline.releases.files import read_release_info
from pipeline.releases.verify import verify_folder
from pipeline.settings.load import Settings
from pipeline.storage.folder import CHECKSUMS
from pipeline.storage.store import Store
from pipeline.upkeep.searched_folders import SearchedFolders

# Files that a revision writes again. It copies the others, such as the towers.
_REWRITTEN = (
    files.MUSIC,
    files.VIDEO,
    files.QUERIES,
    files.INDEX,
    files.METRICS,
    files.CARD,
    files.INFO_FILE,
    CHECKSUMS,
)


def erase_from_releases(
    settings: Settings, store: Store, requested: frozenset[str], searched: SearchedFolders
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Write every release that has a requested item again, without it.

    Args:
        settings: of the pipeline.
        store: the store with the releases.
        requested: `id_hash` of the requested ids.
        searched: the folders that need no search; gets the releases without a requested item.

    Returns:
        The ids of the new revisions, and for each unreadable release its name -> the damage.
    """
    current = read_current(store)
    new: list[str] = []
    damaged = {}
    for name in _remove_duplicate_revisions(store, current):
        if f"releases/{name}" in searched:
            continue
        try:
            revisions = _erase_from_release(settings, store, name, requested)
            for clean in revisions or [name]:
                searched.add(f"releases/{clean}")
            new += revisions
        except (ProvenanceError, ReleaseError) as error:
            damaged[name] = error.summary
    promoted = {p.release_id for p in current.promotions} if current else set()
    for name in store.children("releases"):
        if store.exists(f"releases/{name}"):
            continue
        if name in promoted:
            damaged[name] = f"no {CHECKSUMS} (releases/{name})"
        else:
            # An unfinished release that was never current: nobody can have read it.
            store.remove(f"releases/{name}")
    return tuple(new), damaged


def _erase_from_release(
    settings: Settings, store: Store, name: str, requested: frozenset[str]
) -> list[str]:
    """Replace one release, and return the new id; empty if it has none of the items."""
    folder = store.fetch(f"releases/{name}")
    info = read_release_info(folder)
    contents = ReleaseContents.read(folder, info.run_id)
    left = contents.without(requested)
    if len(left.music) == len(contents.music) and len(left.videos) == len(contents.videos):
        return []
    release_id = f"{run_id_of(name)}.{revision_of(name) + 1}"
    changed = {"release_id": release_id, "music": len(left.music), "videos": len(left.videos)}
    metrics = json.loads((folder / files.METRICS).read_text(encoding="utf-8"))
    with store.writing(f"releases/{release_id}") as aside:
        rewritten = shutil.ignore_patterns(*_REWRITTEN)
        shutil.copytree(folder, aside, dirs_exist_ok=True, ignore=rewritten)
        new_info = info.model_copy(update=changed)
        write_release_files(aside, new_info, left, metrics, settings.release)
        verify_folder(aside)
    replace_release(store, name, release_id)
    store.remove(f"releases/{name}")
    return [release_id]


def _remove_duplicate_revisions(store: Store, current: ReleasePointer | None) -> list[str]:
    """Remove second revisions of a run, left by a killed erasure; return the other releases."""
    known = {p.release_id for p in current.promotions} if current else set()
    kept: dict[str, str] = {}
    names = sorted(store.names("releases"), key=lambda name: (name in known, revision_of(name)))
    for name in names:
        if run_id_of(name) in kept:
            store.remove(f"releases/{kept[run_id_of(name)]}")
        kept[run_id_of(name)] = name
    return sorted(kept.values())
