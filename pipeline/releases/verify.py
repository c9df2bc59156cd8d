"""Verify a release: its hashes, its parts against each other, and its answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.arrays import Float32Array
from pipeline.errors import ReleaseError
from pipeline.releases import files
from pipeline.releases import index as music_index
from pipeline.releases.files import read_table, read_vectors
from pipeline.releases.onnx_towers import MUSIC_TOWER, feature_count, open_tower, run_tower
from pipeline.releases.serving import Release
from pipeline.storage.folder import CHECKSUMS, verify_checksums

TOLERANCE = 1e-4
"""Largest difference between two forms of a tower, relative to the embeddings' norm."""


@dataclass(frozen=True)
class Verification:
    """What was checked in a release.

    Attributes:
        release_id: the release.
        files: files whose hashes were compared; 0 while it is being written.
        queries: known queries that were answered as exact search answers them.
        tower_difference: largest difference between what a tower gives and what is stored.
        index_recall: share of the exact lists that the index found.
    """

    release_id: str
    files: int
    queries: int
    tower_difference: float
    index_recall: float


def verify_folder(folder: Path) -> Verification:
    """Read a release back and ask it its known queries.

    While it is being written, before it has hashes, the towers' safetensors form is compared
    too; afterwards the hashes say that it is the same, to later versions of the code as well.

    Raises:
        ProvenanceError: a file is missing, unknown or changed.
        ReleaseError: parts do not fit each other, or an answer is wrong.
    """
    hashed = 0
    if (folder / CHECKSUMS).is_file():
        verify_checksums(folder)
        hashed = sum(path.is_file() for path in folder.rglob("*")) - 1
    release = Release(folder)
    info = release.info
    tracks = read_vectors(folder / files.MUSIC, info.run_id, "embedding")
    for kind, rows, count in (
        ("music", len(tracks), info.music),
        ("video", len(release.video_ids), info.videos),
    ):
        if rows != count:
            raise ReleaseError(
                f"{kind}.parquet has {rows} rows, the manifest says {count}", where=str(folder)
            )
    asked = read_table(folder / files.QUERIES, info.run_id)["video_id"].to_pylist()
    features = read_vectors(folder / files.QUERIES, info.run_id, "features")
    expected = np.array([release.embedding(name) for name in asked]).reshape(-1, info.dim)
    largest = _difference(expected, [release.embed(row) for row in features])
    if not hashed:
        largest = max(largest, _safetensors_differ(folder, info.run_id, features, expected))
    if not largest <= TOLERANCE:
        raise ReleaseError(
            f"the towers' forms differ by {largest:.2e}, at most {TOLERANCE}", where=str(folder)
        )
    for name, embedding in zip(asked, expected, strict=True):
        _check_answer(release, embedding, tracks, name)
    index = music_index.read_index(folder / files.INDEX)
    recall = music_index.measure(index, tracks, expected).recall
    return Verification(info.release_id, hashed, len(asked), largest, recall)


def _difference(expected: Float32Array, found: list[Float32Array]) -> float:
    """Largest difference of rows, relative to their norm where that exceeds one."""
    if not found:
        return 0.0
    norms = np.maximum(1.0, np.linalg.norm(expected, axis=1))
    return float((np.abs(np.stack(found) - expected).max(axis=1) / norms).max())


def _safetensors_differ(
    folder: Path, run_id: str, video: Float32Array, expected: Float32Array
) -> float:
    """Largest difference between the forms of both towers; music on made-up features."""
    from pipeline.releases.towers import load_towers

    towers = load_towers(folder)
    if towers.run_id != run_id:
        raise ReleaseError(f"towers of {towers.run_id}, manifest of {run_id}", where=str(folder))
    session = open_tower(folder, MUSIC_TOWER, run_id)
    rng = np.random.default_rng(0)
    music = rng.standard_normal((16, feature_count(session))).astype(np.float32)
    group = np.arange(16) % towers.model.n_groups
    return max(
        _difference(expected, list(towers.embed_videos(video))),
        _difference(towers.embed_music(music, group), list(run_tower(session, music, group))),
    )


def _check_answer(
    release: Release, embedding: Float32Array, tracks: Float32Array, name: str
) -> None:
    """Compare one answer with exact search; an approximate index is judged by its recall."""
    hits = release.search(embedding, top=10)
    exact = np.sort(tracks @ embedding)[::-1][:10]
    found = np.array([hit.score for hit in hits], dtype=np.float32)
    right = len(found) == len(exact)
    if right and release.info.index == "flat":
        tolerance = TOLERANCE * np.maximum(1.0, np.abs(exact))
        right = bool((np.abs(found - exact) <= tolerance).all())
    if not right:
        raise ReleaseError(
            f"known query {name!r}: scores {found.tolist()}, exact {exact.tolist()}",
            where=str(release.folder),
        )
