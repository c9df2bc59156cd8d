"""Verifies a release: checksums, consistency of its files, and answers to known queries."""

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

# Largest difference between embeddings by two forms of a tower, relative to their norm.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Verification:
    """Result of a verification without errors.

    Attributes:
        release_id: the release.
        files: number of files compared with their checksums; 0 for a release that is being
            written.
        queries: number of known queries whose answers were compared with exact search.
        tower_difference: largest difference between a tower's output and the stored embedding,
            relative to its norm.
        index_recall: recall of the index against exact search, 0..1.
    """

    release_id: str
    files: int
    queries: int
    tower_difference: float
    index_recall: float


def verify_folder(folder: Path) -> Verification:
    """Read a release and answer its known queries.

    The safetensors form of the towers is compared only while the release is being written, before
    it has checksums. Afterwards the checksums guarantee that it is unchanged, and a later version
    need not be able to load the model.

    Args:
        folder: folder of the release.

    Raises:
        ProvenanceError: a file is missing, unknown or changed.
        ReleaseError: files are inconsistent, or an answer is wrong.
    """
    checked_files = 0
    if (folder / CHECKSUMS).is_file():
        verify_checksums(folder)
        checked_files = sum(path.is_file() for path in folder.rglob("*")) - 1
    release = Release(folder)
    info = release.info
    tracks = read_vectors(folder / files.MUSIC, info.run_id, "embedding")
    for kind, rows, count in (
        ("music", len(tracks), info.music),
        ("video", len(release.video_ids), info.videos),
    ):
        if rows != count:
            raise ReleaseError(
                f"{kind}.parquet has {rows} rows, manifest.json says {count}", where=str(folder)
            )
    query_ids = read_table(folder / files.QUERIES, info.run_id)["video_id"].to_pylist()
    features = read_vectors(folder / files.QUERIES, info.run_id, "features")
    expected = np.array([release.embedding(name) for name in query_ids]).reshape(-1, info.dim)
    largest = _difference(expected, [release.embed(row) for row in features])
    if not checked_files:
        largest = max(largest, _safetensors_difference(folder, info.run_id, features, expected))
    if not largest <= TOLERANCE:
        raise ReleaseError(
            f"the forms of a tower differ by {largest:.2e}, allowed is {TOLERANCE}",
            where=str(folder),
        )
    for name, embedding in zip(query_ids, expected, strict=True):
        _check_answer(release, embedding, tracks, name)
    index = music_index.read_index(folder / files.INDEX)
    recall = music_index.measure(index, tracks, expected).recall
    return Verification(info.release_id, checked_files, len(query_ids), largest, recall)


def _difference(expected: Float32Array, found: list[Float32Array]) -> float:
    """Return the largest difference between rows, divided by the row's norm if that exceeds 1."""
    if not found:
        return 0.0
    norms = np.maximum(1.0, np.linalg.norm(expected, axis=1))
    return float((np.abs(np.stack(found) - expected).max(axis=1) / norms).max())


def _safetensors_difference(
    folder: Path, run_id: str, video: Float32Array, expected: Float32Array
) -> float:
    """Return the largest difference between the ONNX and the safetensors form of the towers.

    A release has no features of its music, so the music towers are compared on random features.
    """
    # Here, because it imports torch, which serving must not need.
    from pipeline.releases.towers import load_towers

    towers = load_towers(folder)
    if towers.run_id != run_id:
        raise ReleaseError(
            f"towers of {towers.run_id}, but the release is of {run_id}", where=str(folder)
        )
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
    """Compare one answer with exact search; of an approximate index only its length."""
    hits = release.search(embedding, top=10)
    exact = np.sort(tracks @ embedding)[::-1][:10]
    found = np.array([hit.score for hit in hits], dtype=np.float32)
    correct = len(found) == len(exact)
    if correct and release.info.index == music_index.IndexKind.FLAT:
        tolerance = TOLERANCE * np.maximum(1.0, np.abs(exact))
        correct = bool((np.abs(found - exact) <= tolerance).all())
    if not correct:
        raise ReleaseError(
            f"wrong answer to known query {name!r}: scores {found.tolist()}, exact search "
            f"{exact.tolist()}",
            where=str(release.folder),
        )
