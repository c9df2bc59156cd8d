"""The releases that are kept: list, compare, put back, retire."""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import dataclass, replace
from typing import Any

from features.arrays import Float32Array
from pipeline.errors import ProvenanceError, ReleaseError
from pipeline.publishing.continuity import cosine_distance
from pipeline.publishing.sinks.following import follow
from pipeline.releases import files
from pipeline.releases import index as music_index
from pipeline.releases.current import (
    Check,
    Promotion,
    ReleasePointer,
    make_current,
    read_current,
    retire_releases,
    run_id_of,
)
from pipeline.releases.files import ReleaseInfo, read_release_info, read_table, read_vectors
from pipeline.releases.verify import Verification, verify_folder
from pipeline.settings.load import Settings
from pipeline.storage.folder import LEFTOVER_SECONDS
from pipeline.storage.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One line of the list of releases.

    Attributes:
        release_id: the release.
        current: whether readers get it.
        as_of: last day whose deliveries are in, ISO.
        promoted_at: when it last became current, ISO; empty where it never did.
        why: why it did.
        music: number of tracks.
        videos: number of videos.
        measure: name of the recall that the gate judged.
        recall: the model's, at its publication.
        decision: the gate's.
        damage: what is wrong with it; empty where it can be read. Of a damaged one only its id and
            its place in history are known.
    """

    release_id: str
    current: bool
    promoted_at: str
    why: str
    as_of: str = ""
    music: int = 0
    videos: int = 0
    measure: str = ""
    recall: float = math.nan
    decision: str = ""
    damage: str = ""


@dataclass(frozen=True)
class Difference:
    """What changed from one release to another.

    Attributes:
        old: release compared with.
        new: release compared.
        metrics: measure -> (old, new), each as judged in its own night.
        music_added: tracks in the new one only.
        music_removed: tracks in the old one only.
        videos_added: videos in the new one only.
        videos_removed: videos in the old one only.
        music_drift: mean cosine distance that common tracks moved; None where axes differ.
        same_recommendations: mean share of the ten best tracks that stayed, over common videos.
        changed: manifest field -> (old, new), for extractors, groups and inputs that differ.
    """

    old: str
    new: str
    metrics: dict[str, tuple[float, float]]
    music_added: int
    music_removed: int
    videos_added: int
    videos_removed: int
    music_drift: float | None
    same_recommendations: float | None
    changed: dict[str, tuple[Any, Any]]


def list_releases(store: Store) -> list[Entry]:
    """Every release that is kept, newest first; one that is damaged is listed as such."""
    current = read_current(store)
    entries = []
    for name in reversed(store.names("releases")):
        promotion = _last_promotion(current, name)
        entry = Entry(
            release_id=name,
            current=current is not None and current.release_id == name,
            promoted_at=promotion.at if promotion else "",
            why=promotion.why if promotion else "",
        )
        try:
            manifest, metrics = _documents(store, name)
        except (ProvenanceError, ReleaseError) as error:
            # It may also have been removed since the names were read.
            if store.exists(f"releases/{name}"):
                entries.append(replace(entry, damage=error.summary))
            continue
        measure = f"recall@{metrics['evaluation_set']['k']}"
        entries.append(
            replace(
                entry,
                as_of=manifest.as_of,
                music=manifest.music,
                videos=manifest.videos,
                measure=measure,
                recall=metrics["contenders"]["challenger"][measure],
                decision=manifest.decision["decision"],
            )
        )
    return entries


def verify_release(store: Store, name: str) -> Verification:
    """Verify a release that is kept.

    Raises:
        ReleaseError: there is no such release, or its parts or answers are wrong.
        ProvenanceError: a file is missing, unknown or changed.
    """
    require(store, name)
    return verify_folder(store.fetch(f"releases/{name}"))


def promote(settings: Settings, store: Store, name: str, why: str) -> Verification:
    """Make any kept release current, once it passes its verification.

    Raises:
        ReleaseError: there is no such release, or it fails its verification.
        ProvenanceError: a file is missing, unknown or changed.
    """
    return _promote(settings, store, name, why, lambda _: None)


def _promote(settings: Settings, store: Store, name: str, why: str, check: Check) -> Verification:
    verification = verify_release(store, name)
    make_current(store, name, why, check)
    follow(settings.release, store)
    return verification


def rollback(settings: Settings, store: Store, why: str = "rolled back") -> str:
    """Put the release back that was current before the current one; its id.

    Rolled back twice, the one before that comes back.

    Raises:
        ReleaseError: there is no earlier release, it fails its verification, or another release
            became current meanwhile.
    """
    current = read_current(store)
    if current is None:
        raise ReleaseError("no release has been published", where="releases")
    target = rollback_target(store, current)
    if target is None:
        raise ReleaseError("no earlier release is kept", where=current.release_id)

    def unchanged(found: ReleasePointer | None) -> None:
        if found is None or found.release_id != current.release_id:
            raise ReleaseError(
                f"{found.release_id if found else 'none'} became current meanwhile: look again, "
                "then roll back",
                where=current.release_id,
            )

    _promote(settings, store, target, f"{why} (from {current.release_id})", unchanged)
    return target


def rollback_target(store: Store, current: ReleasePointer) -> str | None:
    """The kept release that first became current last before the current one did."""
    # Oldest first, each release at its first promotion: promotions back and forth do not count.
    order = list(dict.fromkeys(p.release_id for p in reversed(current.promotions)))
    earlier = order[: order.index(current.release_id)]
    return next((name for name in reversed(earlier) if store.exists(f"releases/{name}")), None)


def retire(settings: Settings, store: Store, *, dry_run: bool = False) -> list[str]:
    """Remove the releases that need not be kept; their ids.

    Kept are the newest `[release] keep`, the current one, the one a rollback would put back,
    with `keep_monthly` the last champion of each month, and one that is being published.

    Raises:
        WriteConflictError: other writers won every attempt.
    """

    def choose(current: ReleasePointer) -> list[str]:
        return _past_their_time(settings, store, current)

    if dry_run:
        current = read_current(store)
        return choose(current) if current else []
    retired = retire_releases(store, choose)
    for name in retired:
        store.remove(f"releases/{name}")
        log.info("release %s removed: past its time", name)
    return retired


def _past_their_time(settings: Settings, store: Store, current: ReleasePointer) -> list[str]:
    names = store.names("releases")
    kept = {*names[-settings.release.keep :], current.release_id}
    kept.add(rollback_target(store, current) or "")
    if settings.release.keep_monthly:
        # Newest first: the first promotion met of a month is its last.
        last: dict[str, str] = {}
        for promotion in current.promotions:
            last.setdefault(promotion.at[:7], promotion.release_id)
        kept |= set(last.values())
    # Written, not current yet: by a running publication, or by one that was killed.
    promoted = {promotion.release_id for promotion in current.promotions}
    young = time.time() - LEFTOVER_SECONDS
    return [
        name
        for name in names
        if name not in kept and (name in promoted or store.modified(f"releases/{name}") < young)
    ]


def diff(store: Store, old: str, new: str) -> Difference:
    """Compare two releases.

    Raises:
        ReleaseError: there is no such release.
    """
    first, first_metrics = _documents(store, old)
    second, second_metrics = _documents(store, new)
    tracks = _Common.of(store, files.MUSIC, "music_id", first, second)
    videos = _Common.of(store, files.VIDEO, "video_id", first, second)
    comparable = first.dim == second.dim and len(tracks.old) > 0
    return Difference(
        old=old,
        new=new,
        metrics=_metrics(first_metrics, second_metrics),
        music_added=tracks.added,
        music_removed=tracks.removed,
        videos_added=videos.added,
        videos_removed=videos.removed,
        music_drift=float(cosine_distance(tracks.old, tracks.new).mean()) if comparable else None,
        same_recommendations=_same_lists(tracks, videos) if len(videos.old) else None,
        changed=_changed(first, second),
    )


def require(store: Store, name: str) -> None:
    """Fail where there is no such release.

    Raises:
        ReleaseError: saying what became of it, and naming those that there are.
    """
    if store.exists(f"releases/{name}"):
        return
    known = store.names("releases")
    current = read_current(store)
    past = {*current.retired, *(p.release_id for p in current.promotions[1:])} if current else set()
    revisions = [other for other in known if run_id_of(other) == run_id_of(name)]
    why = "no such release"
    if current is not None and name == current.release_id:
        why = "current, and its folder is missing"
    elif revisions:
        why = f"written again as {revisions[-1]} when items were erased from it"
    elif name in past:
        why = "past its time ([release] keep): upkeep has removed it"
    raise ReleaseError(f"{why}; there are: {', '.join(known) or 'none'}", where=name)


@dataclass(frozen=True)
class _Common:
    """Embeddings of the items that two releases share, and how many they do not."""

    old: Float32Array
    new: Float32Array
    added: int
    removed: int

    @classmethod
    def of(cls, store: Store, file: str, key: str, old: ReleaseInfo, new: ReleaseInfo) -> _Common:
        found = [(store.fetch(f"releases/{m.release_id}") / file, m.run_id) for m in (old, new)]
        names = [read_table(*one, [key])[key].to_pylist() for one in found]
        rows = [{name: row for row, name in enumerate(of_release)} for of_release in names]
        common = [name for name in rows[0] if name in rows[1]]
        first, second = (
            read_vectors(*one, "embedding")[[row_of[name] for name in common]]
            for one, row_of in zip(found, rows, strict=True)
        )
        return cls(first, second, len(rows[1]) - len(common), len(rows[0]) - len(common))


def _documents(store: Store, name: str) -> tuple[ReleaseInfo, dict[str, Any]]:
    require(store, name)
    folder = store.fetch(f"releases/{name}")
    metrics: dict[str, Any] = json.loads((folder / files.METRICS).read_text(encoding="utf-8"))
    return read_release_info(folder), metrics


def _last_promotion(current: ReleasePointer | None, name: str) -> Promotion | None:
    promotions = current.promotions if current else ()
    return next((p for p in promotions if p.release_id == name), None)


def _metrics(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[float, float]]:
    first, second = old["contenders"]["challenger"], new["contenders"]["challenger"]
    return {
        name: (value, second[name])
        for name, value in first.items()
        if isinstance(value, float) and name in second
    }


def _same_lists(tracks: _Common, videos: _Common, k: int = 10) -> float | None:
    """Mean share of the best k common tracks that stayed, over at most 1,000 common videos."""
    k = min(k, len(tracks.old))
    if not k:
        return None
    rows = slice(None, None, max(1, len(videos.old) // 1000))
    lists = [
        music_index.search(music_index.build_index(t, len(t)), v[rows], k)[0]
        for t, v in ((tracks.old, videos.old), (tracks.new, videos.new))
    ]
    same = (lists[0][:, :, None] == lists[1][:, None, :]).any(axis=2)
    return float(same.mean())


def _changed(old: ReleaseInfo, new: ReleaseInfo) -> dict[str, tuple[Any, Any]]:
    compared = ("dim", "groups", "visual_extractor", "audio_extractor", "index")
    changed = {
        name: (getattr(old, name), getattr(new, name))
        for name in compared
        if getattr(old, name) != getattr(new, name)
    }
    for kind in ("inputs", "packages"):
        first, second = getattr(old, kind), getattr(new, kind)
        for name in sorted(first.keys() | second.keys()):
            if first.get(name) != second.get(name):
                changed[f"{kind}.{name}"] = (first.get(name), second.get(name))
    return changed
