"""The towers of a release by ONNX Runtime: no torch, whatever version trained them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort

from features.arrays import Float32Array, Int64Array
from pipeline.errors import ReleaseError

VIDEO_TOWER = "video_tower.onnx"
MUSIC_TOWER = "music_tower.onnx"
RUN_ID = "run_id"
"""Key under which every file with embeddings or weights names the run that trained it."""

_ROWS = 8192


def open_tower(folder: Path, name: str, run_id: str) -> ort.InferenceSession:
    """Open a tower of a release; the session may be used by many threads at once.

    Args:
        folder: of the release.
        name: VIDEO_TOWER or MUSIC_TOWER.
        run_id: the run that the manifest names.

    Raises:
        ReleaseError: the file is missing or damaged, or the tower is of another run.
    """
    options = ort.SessionOptions()
    # A query is one row: threads of its own would only compete with the caller's.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    path = folder / name
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no class of their own
        raise ReleaseError(f"not a tower: {error}", where=str(path)) from error
    found = session.get_modelmeta().custom_metadata_map.get(RUN_ID, "")
    if found != run_id:
        raise ReleaseError(f"is of {found or 'no run'}, the manifest of {run_id}", where=str(path))
    return session


def feature_count(session: ort.InferenceSession) -> int:
    """Number of feature columns that a tower reads."""
    shapes = {entry.name: entry.shape for entry in session.get_inputs()}
    return int(shapes["features"][1])


def run_tower(
    session: ort.InferenceSession, features: Float32Array, genre_group: Int64Array | None = None
) -> Float32Array:
    """Embed raw features.

    Args:
        session: a tower.
        features: float32 [n, columns].
        genre_group: int64 [n], for the music tower.

    Returns:
        float32 [n, D].
    """
    feed = {"features": features, "genre_group": genre_group}
    # A variant whose music tower does not read the genre group is exported without that input.
    names = [entry.name for entry in session.get_inputs()]
    parts = []
    for start in range(0, max(len(features), 1), _ROWS):
        rows = {name: feed[name][start : start + _ROWS] for name in names}  # type: ignore[index]
        parts.append(session.run(None, rows)[0])
    return np.concatenate(parts)
