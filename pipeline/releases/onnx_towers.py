"""Runs the towers of a release with ONNX Runtime: no torch, and no model code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort

from features.arrays import Float32Array, Int64Array
from pipeline.errors import ReleaseError

VIDEO_TOWER = "video_tower.onnx"
MUSIC_TOWER = "music_tower.onnx"
# Metadata key under which every file with embeddings or weights names the run that trained it.
RUN_ID = "run_id"

# Rows that are embedded at a time.
_ROWS = 8192


def open_tower(folder: Path, name: str, run_id: str) -> ort.InferenceSession:
    """Open a tower of a release; many threads may use the session at once.

    Args:
        folder: folder of the release.
        name: VIDEO_TOWER or MUSIC_TOWER.
        run_id: the run of the release, from its `ReleaseInfo`.

    Raises:
        ReleaseError: the file is missing or damaged, or the tower is of another run.
    """
    options = ort.SessionOptions()
    # A query is one row; threads of the session would only compete with the caller's.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    path = folder / name
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common base class
        raise ReleaseError(f"cannot open the tower: {error}", where=str(path)) from error
    found = session.get_modelmeta().custom_metadata_map.get(RUN_ID, "")
    if found != run_id:
        raise ReleaseError(
            f"tower of {found or 'no run'}, but the release is of {run_id}", where=str(path)
        )
    return session


def feature_count(session: ort.InferenceSession) -> int:
    """Return the number of features that a tower reads per row."""
    shapes = {entry.name: entry.shape for entry in session.get_inputs()}
    return int(shapes["features"][1])


def run_tower(
    session: ort.InferenceSession, features: Float32Array, genre_group: Int64Array | None = None
) -> Float32Array:
    """Embed features, a part of the rows at a time.

    Args:
        session: a tower.
        features: float32 [n, feature_count(session)].
        genre_group: int64 [n], for the music tower.

    Returns:
        float32 [n, D].
    """
    feed = {"features": features, "genre_group": genre_group}
    # Some variants have a music tower without the input genre_group.
    names = [entry.name for entry in session.get_inputs()]
    parts = []
    for start in range(0, max(len(features), 1), _ROWS):
        rows = {name: feed[name][start : start + _ROWS] for name in names}  # type: ignore[index]
        parts.append(session.run(None, rows)[0])
    return np.concatenate(parts)
