"""Lists, verifies, promotes, rolls back, compares and retires the kept releases."""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import dataclass, replace
from typing import Any

from features.arrays import Float32Array
from pipeline.errors import PUBLISH_FIRST, ProvenanceError, ReleaseError
from pipeline.publishing.continuity import cosine_distance
from pipeline.publishing.sinks.following import update_sinks
from pipeline.releases import files
from pipeline.releases import index as music_index
from pipeline.releases.current import (
    Promotion,
    PromotionCheck,
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


# Videos over which the recommendations of two releases are compared.
_COMPARED_VIDEOS = 1000


@dataclass(frozen=True)
class ReleaseEntry:
    """One line of the list of releases.

    Of a damaged release only the first four fields and `damage` are filled.

    Attributes:
        release_id: the release.
        current: whether it is the current release.
        promoted_at: when it last became current, ISO 8601; empty if it never did.
        why: why it became current.
        as_of: last landing day in its data, ISO 8601.
        music: number of tracks.
        videos: number of videos.
        measure: name of the recall that the gate judged, such as "recall@10".
        recall: that recall, when the run was evaluated.
        decision: decision of the gate.
        damage: what is wrong with the release; empty if it can be read.
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
class ReleaseDiff:
    """The differences between two releases.

    Attributes:
        old: the release compared with.
        new: the release compared.
        metrics: measure -> (old, new), each from the evaluation of its own run.
        music_added: number of tracks only in the new release.
        music_removed: number of tracks only in the old release.
        videos_added: number of videos only in the new release.
        videos_removed: number of videos only in the old release.
        music_drift: mean cosine distance between the two embeddings of shared tracks; None if the
            dimensions differ or no track is shared.
        same_recommendations: mean share of the ten best tracks that are the same, over shared
            videos; None without shared videos.
        changed: field of the release info -> (old, new), for extractors, genre groups, inputs and
            packages that differ.
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


def list_releases(store: Store) -> list[ReleaseEntry]:
    """Return every kept release, newest first, including damaged ones."""
    current = read_current(store)
    entries = []
    for name in reversed(store.names("releases")):
        promotion = _last_promotion(current, name)
        entry = ReleaseEntry(
            release_id=name,
            current=current is not None and current.release_id == name,
            promoted_at=promotion.at if promotion else "",
            why=promotion.why if promotion else "",
        )
        try:
            info, metrics = _read_info_and_metrics(store, name)
        except (ProvenanceError, ReleaseError) as error:
            # If the folder is gone, another process removed it after the names were read.
            if store.exists(f"releases/{name}"):
                entries.append(replace(entry, damage=error.summary))
            continue
        measure = f"recall@{metrics['evaluation_set']['k']}"
        entries.append(
            replace(
                entry,
                as_of=info.as_of,
                music=info.music,
                videos=info.videos,
                measure=measure,
                recall=metrics["contenders"]["challenger"][measure],
                decision=info.decision["decision"],
            )
        )
    return entries


def verify_release(store: Store, name: str) -> Verification:
    """Compare a release's files with their checksums, and run its known queries.

    Raises:
        ReleaseError: there is no such release, its parts do not fit together, or its answers to
            known queries are wrong.
        ProvenanceError: a file is missing, unknown or changed.
    """
    require_release(store, name)
    return verify_folder(store.fetch(f"releases/{name}"))


def promote(settings: Settings, store: Store, name: str, why: str) -> Verification:
    """Verify a kept release and make it current.

    Raises:
        ReleaseError: there is no such release, or it fails its verification.
        ProvenanceError: a file is missing, unknown or changed.
    """
    return _promote(settings, store, name, why, lambda _: None)


def _promote(
    settings: Settings, store: Store, name: str, why: str, check: PromotionCheck
) -> Verification:
    verification = verify_release(store, name)
    make_current(store, name, why, check)
    update_sinks(settings.release, store)
    return verification


def rollback(settings: Settings, store: Store, why: str = "rolled back") -> str:
    """Make the previous release current again.

    A second rollback goes back one release further.

    Returns:
        The id of the release that is now current.

    Raises:
        ReleaseError: there is no earlier release, it fails its verification, or another release
            became current meanwhile.
    """
    current = read_current(store)
    if current is None:
        raise ReleaseError("no release has been published", where="releases", remedy=PUBLISH_FIRST)
    target = rollback_target(store, current)
    if target is None:
        raise ReleaseError(
            "no earlier release is kept",
            where=current.release_id,
            remedy="Readers keep this release, because there is no other. Fix what is wrong with "
            "it, then run `debcm retrain`: it publishes a new one.",
        )

    def check_unchanged(found: ReleasePointer | None) -> None:
        if found is None or found.release_id != current.release_id:
            raise ReleaseError(
                f"not rolled back: {found.release_id if found else 'no release'} became current "
                "meanwhile. Check `debcm release list`, then roll back again if needed",
                where=current.release_id,
            )

    _promote(settings, store, target, f"{why} (from {current.release_id})", check_unchanged)
    return target


def rollback_target(store: Store, current: ReleasePointer) -> str | None:
    """Return the kept release whose first promotion came last before the current release's."""
    # Oldest first, by first promotion. Later promotions are rollbacks and their reversals.
    order = list(dict.fromkeys(p.release_id for p in reversed(current.promotions)))
    earlier = order[: order.index(current.release_id)]
    return next((name for name in reversed(earlier) if store.exists(f"releases/{name}")), None)


def retire(settings: Settings, store: Store, *, dry_run: bool = False) -> list[str]:
    """Remove expired releases.

    The newest `[release] keep` releases are kept, and so are the current one, the one that a
    rollback would restore, those that may be in publication, and with `keep_monthly` the last
    champion of each month.

    Returns:
        The ids of the removed releases, or with `dry_run` of those that would be removed.

    Raises:
        WriteConflictError: other writers won every attempt.
    """

    def choose(current: ReleasePointer) -> list[str]:
        return _expired(settings, store, current)

    if dry_run:
        current = read_current(store)
        return choose(current) if current else []
    retired = retire_releases(store, choose)
    for name in retired:
        store.remove(f"releases/{name}")
        log.info("removed expired release %s", name)
    return retired


def _expired(settings: Settings, store: Store, current: ReleasePointer) -> list[str]:
    names = store.names("releases")
    kept = {*names[-settings.release.keep :], current.release_id}
    kept.add(rollback_target(store, current) or "")
    if settings.release.keep_monthly:
        # Promotions are sorted newest first, so the first one of a month wins.
        last: dict[str, str] = {}
        for promotion in current.promotions:
            last.setdefault(promotion.at[:7], promotion.release_id)
        kept |= set(last.values())
    # A release that was never current is in publication, or its publication was killed.
    promoted = {promotion.release_id for promotion in current.promotions}
    oldest_unpublished = time.time() - LEFTOVER_SECONDS
    return [
        name
        for name in names
        if name not in kept
        and (name in promoted or store.modified(f"releases/{name}") < oldest_unpublished)
    ]


def diff(store: Store, old: str, new: str) -> ReleaseDiff:
    """Compare two releases.

    Raises:
        ReleaseError: there is no such release.
    """
    old_info, old_metrics = _read_info_and_metrics(store, old)
    new_info, new_metrics = _read_info_and_metrics(store, new)
    tracks = _SharedItems.read(store, files.MUSIC, "music_id", old_info, new_info)
    videos = _SharedItems.read(store, files.VIDEO, "video_id", old_info, new_info)
    comparable = old_info.dim == new_info.dim and len(tracks.old) > 0
    return ReleaseDiff(
        old=old,
        new=new,
        metrics=_metric_pairs(old_metrics, new_metrics),
        music_added=tracks.added,
        music_removed=tracks.removed,
        videos_added=videos.added,
        videos_removed=videos.removed,
        music_drift=float(cosine_distance(tracks.old, tracks.new).mean()) if comparable else None,
        same_recommendations=_recommendation_overlap(tracks, videos) if len(videos.old) else None,
        changed=_changed_fields(old_info, new_info),
    )


def require_release(store: Store, name: str) -> None:
    """Check that a release is kept.

    Raises:
        ReleaseError: it is not; the text says why and lists the kept releases.
    """
    if store.exists(f"releases/{name}"):
        return
    kept = store.names("releases")
    current = read_current(store)
    past = {*current.retired, *(p.release_id for p in current.promotions[1:])} if current else set()
    revisions = [other for other in kept if run_id_of(other) == run_id_of(name)]
    why = "no such release"
    if current is not None and name == current.release_id:
        why = "the current release has no folder"
    elif revisions:
        why = f"an erasure replaced this release by {revisions[-1]}"
    elif name in past:
        why = "expired ([release] keep): upkeep has removed this release"
    raise ReleaseError(f"{why}; kept releases: {', '.join(kept) or 'none'}", where=name)


@dataclass(frozen=True)
class _SharedItems:
    """Embeddings of the items in both releases, and how many are in one of them only."""

    old: Float32Array
    new: Float32Array
    added: int
    removed: int

    @classmethod
    def read(
        cls, store: Store, file: str, key: str, old: ReleaseInfo, new: ReleaseInfo
    ) -> _SharedItems:
        sources = [
            (store.fetch(f"releases/{info.release_id}") / file, info.run_id) for info in (old, new)
        ]
        ids = [read_table(*source, [key])[key].to_pylist() for source in sources]
        row_of = [{name: row for row, name in enumerate(of_release)} for of_release in ids]
        shared = [name for name in row_of[0] if name in row_of[1]]
        old_vectors, new_vectors = (
            read_vectors(*source, "embedding")[[rows[name] for name in shared]]
            for source, rows in zip(sources, row_of, strict=True)
        )
        return cls(
            old_vectors,
            new_vectors,
            added=len(row_of[1]) - len(shared),
            removed=len(row_of[0]) - len(shared),
        )


def _read_info_and_metrics(store: Store, name: str) -> tuple[ReleaseInfo, dict[str, Any]]:
    require_release(store, name)
    folder = store.fetch(f"releases/{name}")
    metrics: dict[str, Any] = json.loads((folder / files.METRICS).read_text(encoding="utf-8"))
    return read_release_info(folder), metrics


def _last_promotion(current: ReleasePointer | None, name: str) -> Promotion | None:
    promotions = current.promotions if current else ()
    return next((p for p in promotions if p.release_id == name), None)


def _metric_pairs(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[float, float]]:
    first, second = old["contenders"]["challenger"], new["contenders"]["challenger"]
    return {
        name: (value, second[name])
        for name, value in first.items()
        if isinstance(value, float) and name in second
    }


def _recommendation_overlap(
    tracks: _SharedItems, videos: _SharedItems, k: int = 10
) -> float | None:
    """Return the mean overlap of two top-k lists, over shared videos and tracks: 0..1."""
    k = min(k, len(tracks.old))
    if not k:
        return None
    rows = slice(None, None, max(1, len(videos.old) // _COMPARED_VIDEOS))
    lists = [
        music_index.search(music_index.build_index(t, len(t)), v[rows], k)[0]
        for t, v in ((tracks.old, videos.old), (tracks.new, videos.new))
    ]
    same = (lists[0][:, :, None] == lists[1][:, None, :]).any(axis=2)
    return float(same.mean())


def _changed_fields(old: ReleaseInfo, new: ReleaseInfo) -> dict[str, tuple[Any, Any]]:
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
