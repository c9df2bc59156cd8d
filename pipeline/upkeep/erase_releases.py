"""Take items out of releases: each is written again without them, as a new revision.

A revision has an id of its own and takes the old release's place in one atomic step.
"""

from __future__ import annotations

import json
import shutil

from pipeline.errors import ProvenanceError, ReleaseError
from pipeline.publishing.publish import Contents, write_contents
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

# Files of a release that an erasure writes anew; the towers stay as they are.
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
    settings: Settings, store: Store, requested: frozenset[str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Write every release that holds a requested item again without it.

    Returns:
        The new ids; and of the releases that cannot be read, name -> what is wrong with it.
    """
    current = read_current(store)
    new: list[str] = []
    damaged = {}
    for name in _one_revision_each(store, current):
        try:
            new += _erase_from_release(settings, store, name, requested)
        except (ProvenanceError, ReleaseError) as error:
            damaged[name] = error.summary
    promoted = {p.release_id for p in current.promotions} if current else set()
    for name in store.children("releases"):
        if store.exists(f"releases/{name}"):
            continue
        if name in promoted:
            damaged[name] = "no manifest"
        else:
            # Never whole: nobody has read it, and nobody can.
            store.remove(f"releases/{name}")
    return tuple(new), damaged


def _erase_from_release(
    settings: Settings, store: Store, name: str, requested: frozenset[str]
) -> list[str]:
    """The old folder is removed once the new one is verified and has its place in the pointer."""
    folder = store.fetch(f"releases/{name}")
    manifest = read_release_info(folder)
    contents = Contents.read(folder, manifest.run_id)
    left = contents.without(requested)
    if len(left.music) == len(contents.music) and len(left.videos) == len(contents.videos):
        return []
    release_id = f"{run_id_of(name)}.{revision_of(name) + 1}"
    changed = {"release_id": release_id, "music": len(left.music), "videos": len(left.videos)}
    metrics = json.loads((folder / files.METRICS).read_text(encoding="utf-8"))
    with store.writing(f"releases/{release_id}") as aside:
        keep = shutil.ignore_patterns(*_REWRITTEN)
        shutil.copytree(folder, aside, dirs_exist_ok=True, ignore=keep)
        write_contents(aside, manifest.model_copy(update=changed), left, metrics, settings.release)
        verify_folder(aside)
    replace_release(store, name, release_id)
    store.remove(f"releases/{name}")
    return [release_id]


def _one_revision_each(store: Store, current: ReleasePointer | None) -> list[str]:
    """The releases, less those that a killed erasure left beside another of the same run."""
    known = {p.release_id for p in current.promotions} if current else set()
    kept: dict[str, str] = {}
    names = sorted(store.names("releases"), key=lambda name: (name in known, revision_of(name)))
    for name in names:
        if run_id_of(name) in kept:
            store.remove(f"releases/{kept[run_id_of(name)]}")
        kept[run_id_of(name)] = name
    return sorted(kept.values())
