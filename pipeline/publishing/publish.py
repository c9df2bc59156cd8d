"""Publishes a run: writes its release aside, verifies it and makes it current.

Verification reads every file back and runs known queries through the written index.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from features.arrays import Float32Array, Int64Array
from models import Model
from pipeline.context import Context
from pipeline.errors import ProvenanceError, ReleaseError
from pipeline.publishing.continuity import measure_shift, orthogonal_procrustes
from pipeline.publishing.history import require_release
from pipeline.publishing.release_contents import ReleaseContents, write_release_files
from pipeline.publishing.sinks.following import open_sinks, update_sinks
from pipeline.releases import files
from pipeline.releases.current import (
    ReleasePointer,
    make_current,
    read_current,
    revision_of,
    run_id_of,
)
from pipeline.releases.files import ReleaseInfo, read_release_info, read_table, read_vectors
from pipeline.releases.towers import Towers, save_towers
from pipeline.releases.verify import verify_folder
from pipeline.storage.presence import missing_lake_errors
from pipeline.storage.store import Store
from pipeline.training.dataset import Dataset, load_dataset
from pipeline.training.evaluate import load_metrics
from pipeline.training.gate import Decision, read_decision

log = logging.getLogger(__name__)

PACKAGES = ("debcm-pipeline", "torch", "onnxruntime", "faiss-cpu", "numpy", "polars", "pyarrow")
# Videos embedded and compared at a time, which bounds the memory.
_VIDEOS_PER_BATCH = 65_536


@dataclass(frozen=True)
class ReleaseSummary:
    """What publishing did.

    Attributes:
        release_id: the release.
        published: False if the run had been published before.
        videos: number of videos.
        music: number of tracks.
        index: kind of the index.
        drift: mean cosine distance between old and new embeddings of the tracks that the previous
            release has too; None if there is no previous release to align with.
        folder: name of the release's folder in the store.
    """

    release_id: str
    published: bool
    videos: int
    music: int
    index: str
    drift: float | None
    folder: str


def run(context: Context, run_id: str) -> ReleaseSummary:
    """Make a run's student the current release. Idempotent.

    A run that was current before and is not any more is left as it is: an operator rolled it
    back, or a newer run replaced it.

    Raises:
        ReleaseError: the gate has not decided on the run or refused it, another release became
            current after the run was evaluated, or the written release fails its verification.
        ProvenanceError: the run's dataset or student is missing.
        SinkError: a sink did not load the release, which is then not current; or did not show it
            after it became current. Publishing again updates the sink.
        LakeUnavailableError: the lake became unavailable.
    """
    with missing_lake_errors(context.store.root):
        return _publish(context, run_id)


def _publish(context: Context, run_id: str) -> ReleaseSummary:
    settings, lake, store = context.settings, context.lake, context.store
    current = read_current(store)
    if current is not None and (earlier := current.promotion_of(run_id)) is not None:
        if current.run_id != run_id:
            log.warning(
                "%s was published before and is no longer current; to restore it, run "
                "`debcm release promote %s`",
                run_id,
                earlier.release_id,
            )
        require_release(store, earlier.release_id)
        update_sinks(settings.release, store)
        return _summarise(store, earlier.release_id, published=False)
    decision = read_decision(lake, run_id)
    if decision is None:
        raise ReleaseError(
            "the gate has not decided on this run",
            where=run_id,
            remedy=f"Run `debcm evaluate {run_id}` and `debcm gate {run_id}`, then publish again.",
        )
    if not decision.may_publish:
        broken = ", ".join(verdict.rule for verdict in decision.failed)
        raise ReleaseError(
            f"refused by the gate: {broken}",
            where=run_id,
            remedy=f"The current release stays. Read the figures with `debcm gate {run_id}`; "
            "docs/releases.md says how a person overrules the gate.",
        )
    judged_against = load_metrics(store, run_id)["champion"]["release_id"]

    def check_champion(found: ReleasePointer | None) -> None:
        champion = found.run_id if found else None
        expected = run_id_of(judged_against) if judged_against else None
        # A second publisher of the same run can have been faster.
        if champion not in {expected, run_id}:
            raise ReleaseError(
                f"evaluated against {expected or 'no release'}, but the current release is now "
                f"{champion or 'none'}",
                where=run_id,
                remedy="To publish it, evaluate the run again: clear task `evaluate` with all "
                f"tasks after it, or run `debcm evaluate {run_id}`, `debcm gate {run_id}` and "
                f"`debcm publish {run_id}`.",
            )

    check_champion(current)
    why = "published"
    if decision.force:
        why = f"forced by {decision.force.by}: {decision.force.reason}"
    release_id = newest_revision(store, run_id)
    if release_id is None:
        release_id = run_id
        _write_release(context, run_id, decision, current)
    while True:
        try:
            folder = store.fetch(f"releases/{release_id}")
            for sink in open_sinks(settings.release):
                sink.stage(folder)
            # Erasure retires a release in the pointer, which does not exist before the first
            # release is current. So check that the folder still exists.
            require_release(store, release_id)
            published = make_current(store, release_id, why, check_champion)
            break
        except (ReleaseError, ProvenanceError):
            # Before the release is current, an erasure can replace it by the next revision.
            newer = newest_revision(store, run_id)
            if newer is None or revision_of(newer) <= revision_of(release_id):
                raise
            release_id = newer
    update_sinks(settings.release, store)
    return _summarise(store, release_id, published=published)


def is_settled(context: Context, run_id: str) -> bool:
    """Return whether nothing is left to do for a run: refused, or published in every sink.

    Raises:
        SinkError: a sink does not answer.
    """
    settings, lake, store = context.settings, context.lake, context.store
    decision = read_decision(lake, run_id)
    if decision is None:
        return False
    if not decision.may_publish:
        return True
    current = read_current(store)
    if current is None or current.promotion_of(run_id) is None:
        return False
    return all(sink.current() == current.release_id for sink in open_sinks(settings.release))


def newest_revision(store: Store, run_id: str) -> str | None:
    """Return the newest revision of a run's release, or None if the run has no release."""
    revisions = [name for name in store.names("releases") if run_id_of(name) == run_id]
    return max(revisions, key=revision_of, default=None)


def _write_release(
    context: Context, run_id: str, decision: Decision, current: ReleasePointer | None
) -> None:
    """Write and verify releases/<run_id> on the axes of the current release."""
    with context.store.writing(f"releases/{run_id}") as folder:
        _write_folder(folder, context, run_id, decision, current)
        # The call above has freed the dataset and the embeddings; verification needs the memory.
        verify_folder(folder)


def _write_folder(
    folder: Path, context: Context, run_id: str, decision: Decision, current: ReleasePointer | None
) -> None:
    settings, store = context.settings, context.store
    dataset = load_dataset(store, run_id)
    student = Model.load(store.fetch(f"runs/{run_id}/student"))
    previous = store.fetch(f"releases/{current.release_id}") if current else None
    deleted = set(context.lake.read("deletions")["id_hash"])
    metrics = load_metrics(store, run_id)
    towers, continuity = _align(student, dataset, previous)
    contents = ReleaseContents.embed(dataset, towers).without(deleted)
    save_towers(towers, folder)
    info = ReleaseInfo(
        format=files.FORMAT,
        release_id=run_id,
        run_id=run_id,
        as_of=dataset.as_of.isoformat(),
        dim=contents.adjusted.shape[1],
        groups=dataset.groups,
        visual_extractor=dataset.visual_extractor,
        audio_extractor=dataset.audio_extractor,
        visual=settings.visual.model_dump(mode="json"),
        audio=settings.audio.model_dump(mode="json"),
        limits=settings.limits.model_dump(mode="json"),
        music=len(contents.music),
        videos=len(contents.videos),
        index="flat",
        previous=current.release_id if current else None,
        decision={"decision": decision.decision, **json.loads(decision.reasons)},
        inputs=dataset.inputs,
        packages={name: version(name) for name in PACKAGES},
    )
    metrics = {**metrics, "continuity": continuity}
    write_release_files(folder, info, contents, metrics, settings.release)


def _align(
    student: Model, dataset: Dataset, previous: Path | None
) -> tuple[Towers, dict[str, Any] | None]:
    """Put the student's towers on the axes of the previous release.

    Returns:
        The towers, and the entry `continuity` of metrics.json: how far the shared items moved;
        None for the first release.
    """
    data = dataset.training
    tracks = student.embed_music(data.music, data.genre_group)
    dim = tracks.shape[1]
    own_axes = Towers(student, np.eye(dim, dtype=np.float32), dataset.run_id)
    if previous is None:
        return own_axes, None
    info = read_release_info(previous)
    new_rows, old_rows = _shared_rows(
        dataset.music, previous / files.MUSIC, info.run_id, "music_id"
    )
    if info.dim != dim or not len(new_rows):
        log.warning(
            "not aligned with %s (other dimension, or no shared track): clients cannot compare "
            "embeddings that they cached with those of this release",
            previous.name,
        )
        return own_axes, {"previous": info.release_id, "aligned": False}
    old_tracks = read_vectors(previous / files.MUSIC, info.run_id, "embedding")[old_rows]
    rotation = orthogonal_procrustes(tracks[new_rows], old_tracks)
    videos = _shared_video_embeddings(student, dataset, previous, info.run_id)
    return Towers(student, rotation, dataset.run_id), {
        "previous": info.release_id,
        "aligned": True,
        "music": asdict(measure_shift([(tracks[new_rows], old_tracks)], rotation)),
        "video": asdict(measure_shift(videos, rotation)),
    }


def _shared_video_embeddings(
    student: Model, dataset: Dataset, previous: Path, run_id: str
) -> Iterator[tuple[Float32Array, Float32Array]]:
    """Yield new and old embeddings of the videos in both releases, in batches."""
    new_rows, old_rows = _shared_rows(dataset.videos, previous / files.VIDEO, run_id, "video_id")
    old = read_vectors(previous / files.VIDEO, run_id, "embedding")
    for start in range(0, len(new_rows), _VIDEOS_PER_BATCH):
        rows = slice(start, start + _VIDEOS_PER_BATCH)
        features = dataset.training.video[new_rows[rows]]
        yield student.embed_videos(features), old[old_rows[rows]]


def _shared_rows(
    items: pl.DataFrame, release_file: Path, run_id: str, key: str
) -> tuple[Int64Array, Int64Array]:
    """Return the rows of shared items in a dataset, and in a file of a release; equal lengths."""
    old = pl.DataFrame(pl.from_arrow(read_table(release_file, run_id, [key])))
    both = (
        items.select(key)
        .with_row_index("new")
        .join(old.with_row_index("old"), on=key, maintain_order="left")
    )
    return both["new"].to_numpy(), both["old"].to_numpy()


def _summarise(store: Store, release_id: str, *, published: bool) -> ReleaseSummary:
    folder = store.fetch(f"releases/{release_id}")
    info = read_release_info(folder)
    metrics = json.loads((folder / files.METRICS).read_text(encoding="utf-8"))
    continuity = metrics["continuity"]
    moved = continuity["music"]["mean"] if continuity and continuity["aligned"] else None
    return ReleaseSummary(
        release_id=release_id,
        published=published,
        videos=info.videos,
        music=info.music,
        index=info.index,
        drift=moved,
        folder=f"releases/{release_id}",
    )
