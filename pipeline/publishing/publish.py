"""Write a release aside, verify it by reading it back and asking it, then make it current."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from features.arrays import Float32Array, Int64Array
from models import Model
from pipeline.context import Context
from pipeline.errors import ProvenanceError, ReleaseError
from pipeline.lake.catalog import id_hash
from pipeline.lake.tables import Lake
from pipeline.publishing.continuity import drift, procrustes
from pipeline.publishing.history import require
from pipeline.publishing.model_card import model_card
from pipeline.publishing.sinks.following import follow, open_sinks
from pipeline.releases import files
from pipeline.releases import index as music_index
from pipeline.releases.current import Current, make_current, read_current, revision_of, run_of
from pipeline.releases.files import ReleaseInfo, read_release_info, read_table, read_vectors
from pipeline.releases.towers import Towers, save_towers
from pipeline.releases.verify import verify_folder
from pipeline.settings.load import Settings
from pipeline.settings.sections import ReleaseSettings
from pipeline.storage.presence import missing_lake_errors
from pipeline.storage.store import Store
from pipeline.training.dataset import Dataset, load_dataset
from pipeline.training.evaluate import load_metrics
from pipeline.training.gate import Decision, stored_decision

log = logging.getLogger(__name__)


PACKAGES = ("debcm-pipeline", "torch", "onnxruntime", "faiss-cpu", "numpy", "polars", "pyarrow")
KNOWN_QUERIES = 32
# Embeddings that are compared together.
_ROWS = 65_536


@dataclass(frozen=True)
class ReleaseSummary:
    """What publishing did.

    Attributes:
        release_id: the release.
        published: False where this run was current already.
        videos: number of videos.
        music: number of tracks.
        index: kind of the index.
        drift: mean cosine distance that common tracks moved, or None for a first release.
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
    """Make a run's student the current release; publishing it again does nothing.

    A run whose release was current before, and is no more, stays where it is: an operator took
    it back, or a newer one took its place.

    Raises:
        ReleaseError: the gate has not decided on the run or refused it, another release became
            current since the run was judged, or the written release fails its verification.
        ProvenanceError: the run's dataset or student is missing.
        SinkError: a sink did not take the release; it is not current then.
        LakeUnavailableError: the lake has gone away.
    """
    settings, lake, store = context.settings, context.lake, context.store
    with missing_lake_errors(store.root):
        return _publish(settings, lake, store, run_id)


def _publish(settings: Settings, lake: Lake, store: Store, run_id: str) -> ReleaseSummary:
    current = read_current(store)
    if current is not None and (earlier := current.promotion_of(run_id)) is not None:
        if current.run_id != run_id:
            log.warning("%s was current before; `debcm release promote` puts it back", run_id)
        require(store, earlier.release_id)
        follow(settings.release, store)
        return _summary(store, earlier.release_id, published=False)
    decision = stored_decision(lake, run_id)
    if decision is None:
        raise ReleaseError("the gate has not decided on it", where=run_id)
    if not decision.may_publish:
        broken = ", ".join(verdict.rule for verdict in decision.failed)
        raise ReleaseError(f"refused by the gate: {broken}", where=run_id)
    judged_against = load_metrics(store, run_id)["champion"]["release_id"]

    def unchanged(found: Current | None) -> None:
        champion = found.run_id if found else None
        expected = run_of(judged_against) if judged_against else None
        # A second publisher of the same run may have been first.
        if champion not in {expected, run_id}:
            raise ReleaseError(
                f"judged against {expected or 'no release'}, but {champion or 'none'} is current "
                "now: evaluate it again",
                where=run_id,
            )

    unchanged(current)
    why = "published"
    if decision.force:
        why = f"forced by {decision.force.by}: {decision.force.reason}"
    release_id = newest_revision(store, run_id)
    if release_id is None:
        release_id = run_id
        write_release(settings, lake, store, run_id, decision, current)
    while True:
        try:
            folder = store.fetch(f"releases/{release_id}")
            for sink in open_sinks(settings.release):
                sink.stage(folder)
            # Before the first release is current, erasure has no pointer to retire it in.
            require(store, release_id)
            published = make_current(store, release_id, why, unchanged)
            break
        except (ReleaseError, ProvenanceError):
            # Erasure may write it again, under the next id, before it is current.
            newer = newest_revision(store, run_id)
            if newer is None or revision_of(newer) <= revision_of(release_id):
                raise
            release_id = newer
    follow(settings.release, store)
    return _summary(store, release_id, published=published)


def is_settled(context: Context, run_id: str) -> bool:
    """Whether nothing is left to do for a run: it was refused, or published to its end.

    A run that the gate let pass, and whose publication failed, is not.

    Raises:
        SinkError: a sink does not answer.
    """
    settings, lake, store = context.settings, context.lake, context.store
    decision = stored_decision(lake, run_id)
    if decision is None:
        return False
    if not decision.may_publish:
        return True
    current = read_current(store)
    if current is None or current.promotion_of(run_id) is None:
        return False
    return all(sink.current() == current.release_id for sink in open_sinks(settings.release))


def newest_revision(store: Store, run_id: str) -> str | None:
    """The release of a run with the most erasures, or None where it has none."""
    revisions = [name for name in store.names("releases") if run_of(name) == run_id]
    return max(revisions, key=revision_of, default=None)


def write_release(
    settings: Settings,
    lake: Lake,
    store: Store,
    run_id: str,
    decision: Decision,
    current: Current | None,
) -> None:
    """Write and verify releases/<run_id> on the axes of the current release."""
    with store.writing(f"releases/{run_id}") as folder:
        _fill(folder, settings, lake, store, run_id, decision, current)
        # The dataset and what was embedded are gone by now: this reads it all again.
        verify_folder(folder)


def _fill(
    folder: Path,
    settings: Settings,
    lake: Lake,
    store: Store,
    run_id: str,
    decision: Decision,
    current: Current | None,
) -> None:
    dataset = load_dataset(store, run_id)
    student = Model.load(store.fetch(f"runs/{run_id}/student"))
    previous = store.fetch(f"releases/{current.release_id}") if current else None
    deleted = set(lake.read("deletions")["id_hash"])
    metrics = load_metrics(store, run_id)
    towers, continuity = _align(student, dataset, previous)
    contents = Contents.of(dataset, towers).without(deleted)
    save_towers(towers, folder)
    manifest = ReleaseInfo(
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
    write_contents(
        folder, manifest, contents, {**metrics, "continuity": continuity}, settings.release
    )


@dataclass(frozen=True)
class Contents:
    """What a release says about its items.

    Attributes:
        music: music_id, title, artist, genre, genre_group, cold; a row a track.
        adjusted: float32 [M, D], the embeddings that are served.
        unadjusted: float32 [M, D], without the backdoor adjustment.
        videos: video_id, uploader_hash; a row a video.
        embeddings: float32 [N, D].
        queries: int64 [Q], rows of the videos that are known queries.
        features: float32 [Q, Dv], raw features of these.
    """

    music: pl.DataFrame
    adjusted: Float32Array
    unadjusted: Float32Array
    videos: pl.DataFrame
    embeddings: Float32Array
    queries: npt.NDArray[np.int64]
    features: Float32Array

    @classmethod
    def of(cls, dataset: Dataset, towers: Towers) -> Contents:
        """Embed everything that a dataset holds."""
        data = dataset.training
        count = min(KNOWN_QUERIES, len(data.video))
        queries = np.unique(np.linspace(0, len(data.video) - 1, count).astype(np.int64))
        uploader = dataset.videos["uploader_id"]
        hashes = {name: id_hash("uploader", name) for name in uploader.unique()}
        return cls(
            music=dataset.music.select(*files.MUSIC_TEXTS, "cold"),
            adjusted=towers.embed_music(data.music, data.genre_group),
            unadjusted=towers.embed_music(data.music, data.genre_group, adjusted=False),
            videos=dataset.videos.select(
                "video_id", uploader_hash=uploader.replace_strict(hashes, return_dtype=pl.String)
            ),
            embeddings=towers.embed_videos(data.video),
            queries=queries,
            features=data.video[queries],
        )

    @classmethod
    def read(cls, folder: Path, run_id: str) -> Contents:
        """Read what `write_contents` wrote.

        Raises:
            ReleaseError: a file is missing, damaged or of another run.
        """
        music = read_table(folder / files.MUSIC, run_id, [*files.MUSIC_TEXTS, "cold"])
        videos = read_table(folder / files.VIDEO, run_id, list(files.VIDEO_TEXTS))
        queries = read_table(folder / files.QUERIES, run_id, ["video_id"])
        row_of = {name: row for row, name in enumerate(videos["video_id"].to_pylist())}
        asked = [row_of[name] for name in queries["video_id"].to_pylist()]
        return cls(
            music=pl.DataFrame(pl.from_arrow(music)),
            adjusted=read_vectors(folder / files.MUSIC, run_id, "embedding"),
            unadjusted=read_vectors(folder / files.MUSIC, run_id, "unadjusted"),
            videos=pl.DataFrame(pl.from_arrow(videos)),
            embeddings=read_vectors(folder / files.VIDEO, run_id, "embedding"),
            queries=np.array(asked, dtype=np.int64),
            features=read_vectors(folder / files.QUERIES, run_id, "features"),
        )

    def without(self, deleted: Collection[str]) -> Contents:
        """The same contents less the items whose deletion was requested.

        Args:
            deleted: hashes of table `deletions`.
        """
        if not deleted:
            return self
        music = np.array(
            [id_hash("music", name) not in deleted for name in self.music["music_id"]], dtype=bool
        )
        videos = np.array(
            [
                id_hash("video", name) not in deleted and uploader not in deleted
                for name, uploader in self.videos.iter_rows()
            ],
            dtype=bool,
        )
        asked = videos[self.queries]
        moved_to = np.cumsum(videos) - 1
        return Contents(
            music=self.music.filter(pl.Series(music)),
            adjusted=self.adjusted[music],
            unadjusted=self.unadjusted[music],
            videos=self.videos.filter(pl.Series(videos)),
            embeddings=self.embeddings[videos],
            queries=moved_to[self.queries[asked]],
            features=self.features[asked],
        )


def write_contents(
    folder: Path,
    manifest: ReleaseInfo,
    contents: Contents,
    metrics: dict[str, Any],
    settings: ReleaseSettings,
) -> None:
    """Write tables, index, metrics, card and manifest into a release folder with its towers.

    Raises:
        ReleaseError: an embedding is not finite, or the index loses more recall than
            `[release] index_recall_loss`.
    """
    run_id = manifest.run_id
    music, videos = contents.music, contents.videos
    files.write_table(
        folder / files.MUSIC,
        run_id,
        music.to_arrow(),
        {"embedding": contents.adjusted, "unadjusted": contents.unadjusted},
    )
    files.write_table(
        folder / files.VIDEO,
        run_id,
        videos.to_arrow(),
        {"embedding": contents.embeddings},
    )
    files.write_table(
        folder / files.QUERIES,
        run_id,
        videos.select(pl.col("video_id").gather(contents.queries)).to_arrow(),
        {"features": np.nan_to_num(contents.features)},
    )
    index = music_index.build_index(contents.adjusted, settings.flat_index_below)
    music_index.write_index(index, folder / files.INDEX)
    asked = contents.embeddings[:: max(1, len(contents.embeddings) // 1000)]
    report = music_index.measure(index, contents.adjusted, asked)
    if report.recall < 1.0 - settings.index_recall_loss:
        raise ReleaseError(
            f"the index finds {report.recall:.2%} of the exact top {report.k}, at least "
            f"{1 - settings.index_recall_loss:.2%} must be found: raise [release] "
            "flat_index_below",
            where=manifest.release_id,
        )
    metrics = {**metrics, "index": asdict(report)}
    manifest = manifest.model_copy(update={"index": report.kind})
    files.write_json(folder / files.METRICS, metrics)
    files.write_json(folder / files.INFO_FILE, manifest.model_dump(mode="json"))
    (folder / files.CARD).write_text(model_card(manifest, metrics), encoding="utf-8")


def _align(
    student: Model, dataset: Dataset, previous: Path | None
) -> tuple[Towers, dict[str, Any] | None]:
    """The student's towers on the axes of the previous release, and how far items moved."""
    data = dataset.training
    tracks = student.embed_music(data.music, data.genre_group)
    dim = tracks.shape[1]
    own_axes = Towers(student, np.eye(dim, dtype=np.float32), dataset.run_id)
    if previous is None:
        return own_axes, None
    manifest = read_release_info(previous)
    new_rows, old_rows = _common(dataset.music, previous / files.MUSIC, manifest.run_id, "music_id")
    if manifest.dim != dim or not len(new_rows):
        log.warning("no common axes with %s: its cached vectors are of no use", previous.name)
        return own_axes, {"previous": manifest.release_id, "aligned": False}
    old_tracks = read_vectors(previous / files.MUSIC, manifest.run_id, "embedding")[old_rows]
    rotation = procrustes(tracks[new_rows], old_tracks)
    videos = _moved_videos(student, dataset, previous, manifest.run_id)
    return Towers(student, rotation, dataset.run_id), {
        "previous": manifest.release_id,
        "aligned": True,
        "music": asdict(drift([(tracks[new_rows], old_tracks)], rotation)),
        "video": asdict(drift(videos, rotation)),
    }


def _moved_videos(
    student: Model, dataset: Dataset, previous: Path, run_id: str
) -> Iterator[tuple[Float32Array, Float32Array]]:
    """New and old embeddings of the videos that two releases hold, some at a time."""
    new_rows, old_rows = _common(dataset.videos, previous / files.VIDEO, run_id, "video_id")
    old = read_vectors(previous / files.VIDEO, run_id, "embedding")
    for start in range(0, len(new_rows), _ROWS):
        rows = slice(start, start + _ROWS)
        features = dataset.training.video[new_rows[rows]]
        yield student.embed_videos(features), old[old_rows[rows]]


def _common(
    items: pl.DataFrame, released: Path, run_id: str, key: str
) -> tuple[Int64Array, Int64Array]:
    """Rows of the items that a release holds too, in their order, and its rows of them."""
    old = pl.DataFrame(pl.from_arrow(read_table(released, run_id, [key])))
    both = (
        items.select(key)
        .with_row_index("new")
        .join(old.with_row_index("old"), on=key, maintain_order="left")
    )
    return both["new"].to_numpy(), both["old"].to_numpy()


def _summary(store: Store, release_id: str, *, published: bool) -> ReleaseSummary:
    folder = store.fetch(f"releases/{release_id}")
    manifest = read_release_info(folder)
    metrics = json.loads((folder / files.METRICS).read_text(encoding="utf-8"))
    continuity = metrics["continuity"]
    moved = continuity["music"]["mean"] if continuity and continuity["aligned"] else None
    return ReleaseSummary(
        release_id=release_id,
        published=published,
        videos=manifest.videos,
        music=manifest.music,
        index=manifest.index,
        drift=moved,
        folder=f"releases/{release_id}",
    )
