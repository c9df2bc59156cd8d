"""Verify a release: its hashes, its parts against each other, and its answers."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from pipeline import index as music_index
from pipeline import release_files as files
from pipeline.errors import ReleaseError
from pipeline.release_files import matrix, read_table
from pipeline.serving import Release
from pipeline.store import MANIFEST as HASHES
from pipeline.store import check_manifest
from pipeline.towers import MUSIC_TOWER, load_towers

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]

TOLERANCE = 1e-4
"""Largest difference between two forms of a tower, relative to the embeddings' norm."""


@dataclass(frozen=True)
class Verification:
    """What was checked in a release.

    Attributes:
        release_id: the release.
        files: files whose hashes were compared; 0 while it is being written.
        queries: known queries that were answered as exact search answers them.
        tower_difference: largest difference between ONNX, safetensors and stored embeddings.
        index_recall: share of the exact lists that the index found.
    """

    release_id: str
    files: int
    queries: int
    tower_difference: float
    index_recall: float


def verify_folder(folder: Path) -> Verification:
    """Read a release back and ask it its known queries.

    Raises:
        ProvenanceError: a file is missing, unknown or changed.
        ReleaseError: parts do not fit each other, or an answer is wrong.
    """
    hashed = 0
    if (folder / HASHES).is_file():
        check_manifest(folder)
        hashed = sum(path.is_file() for path in folder.rglob("*")) - 1
    release = Release(folder)
    manifest = release.manifest
    music = read_table(folder / files.MUSIC, manifest.run_id)
    videos = read_table(folder / files.VIDEO, manifest.run_id)
    for kind, table, count in (
        ("music", music, manifest.music),
        ("video", videos, manifest.videos),
    ):
        if len(table) != count:
            raise ReleaseError(
                f"{kind}.parquet has {len(table)} rows, the manifest {count}", where=str(folder)
            )
    towers = load_towers(folder)
    if towers.run_id != manifest.run_id:
        raise ReleaseError(
            f"towers of {towers.run_id}, manifest of {manifest.run_id}", where=str(folder)
        )
    queries = read_table(folder / files.QUERIES, manifest.run_id)
    names = queries["video_id"].to_pylist()
    stored = dict(zip(videos["video_id"].to_pylist(), matrix(videos, "embedding"), strict=True))
    tracks = matrix(music, "embedding")
    largest = _music_towers_differ(folder)
    asked = []
    for name, features in zip(names, matrix(queries, "features"), strict=True):
        embedding = release.embed(features)
        expected = stored[name]
        scale = max(1.0, float(np.linalg.norm(expected)))
        torch_form = towers.embed_videos(features[None])[0]
        for found in (embedding, torch_form):
            largest = max(largest, float(np.abs(found - expected).max()) / scale)
        asked.append(expected)
        _check_answer(release, embedding, tracks, name)
    if not largest <= TOLERANCE:
        raise ReleaseError(
            f"the towers' forms differ by {largest:.2e}, at most {TOLERANCE}", where=str(folder)
        )
    recall = 1.0
    if asked:
        index = music_index.read_index(folder / files.INDEX)
        recall = music_index.measure(index, tracks, np.stack(asked)).recall
    return Verification(manifest.release_id, hashed, len(names), largest, recall)


def _music_towers_differ(folder: Path) -> float:
    """Largest relative difference of the music tower's two forms on made-up features."""
    towers = load_towers(folder)
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((16, towers.model.music_columns)).astype(np.float32)
    group = np.arange(16) % towers.model.n_groups
    session = ort.InferenceSession(str(folder / MUSIC_TOWER), providers=["CPUExecutionProvider"])
    feed = {"features": rows, "genre_group": group}
    # A tower that does not read the genre group is exported without that input.
    found = session.run(None, {i.name: feed[i.name] for i in session.get_inputs()})[0]
    expected = towers.embed_music(rows, group)
    return float(np.abs(found - expected).max() / max(1.0, np.linalg.norm(expected, axis=1).max()))


def _check_answer(release: Release, embedding: Floats, tracks: Floats, name: str) -> None:
    hits = release.search(embedding, top=10)
    exact = np.sort(tracks @ embedding)[::-1][: len(hits)]
    if release.manifest.index == "flat":
        found = np.array([hit.score for hit in hits], dtype=np.float32)
        tolerance = TOLERANCE * np.maximum(1.0, np.abs(exact))
        if len(hits) != min(10, len(tracks)) or not (np.abs(found - exact) <= tolerance).all():
            raise ReleaseError(
                f"known query {name!r}: scores {found.tolist()}, exact {exact.tolist()}",
                where=str(release.folder),
            )
