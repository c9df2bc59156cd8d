"""Writes and reads the two towers of a release: a trained model, rotated onto the release's axes.

A release has the towers in two forms:

- `model/` (safetensors and JSON, read by `models.Model`) and the rotation,
  `alignment.safetensors`;
- `video_tower.onnx` and `music_tower.onnx`, which include the rotation and need only ONNX Runtime.

Both forms carry the id of the run that trained them.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from features.arrays import Float32Array, Int64Array
from models import Model
from models.tensor_files import mode_by_umask
from pipeline.errors import ReleaseError
from pipeline.releases.onnx_towers import MUSIC_TOWER, RUN_ID, VIDEO_TOWER

MODEL = "model"
ALIGNMENT = "alignment.safetensors"
OPSET = 17

# Rows that are embedded at a time.
_ROWS = 65_536


class _RotatedTower(nn.Module):
    """A tower followed by a fixed rotation of its embeddings."""

    rotation: Tensor

    def __init__(self, tower: nn.Module, rotation: Tensor) -> None:
        super().__init__()
        self.tower = tower
        self.register_buffer("rotation", rotation)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the rotated embeddings, float32 [B, D]."""
        embeddings: Tensor = self.tower(*inputs) @ self.rotation
        return embeddings


@dataclass(frozen=True)
class Towers:
    """A trained model and its rotation onto the axes of a release.

    Attributes:
        model: the model as trained.
        rotation: float32 [D, D], orthogonal; embeddings are multiplied by it from the right.
        run_id: the run that trained the model.
    """

    model: Model
    rotation: Float32Array
    run_id: str

    def embed_videos(self, video: Float32Array) -> Float32Array:
        """Embed videos: features float32 [N, Dv] to embeddings float32 [N, D]."""
        embeddings = np.empty((len(video), self.rotation.shape[1]), dtype=np.float32)
        # In parts: unrotated embeddings of the whole catalogue would be a second such array.
        for start in range(0, len(video), _ROWS):
            rows = slice(start, start + _ROWS)
            np.matmul(self.model.embed_videos(video[rows]), self.rotation, out=embeddings[rows])
        return embeddings

    def embed_music(
        self, music: Float32Array, genre_group: Int64Array, *, adjusted: bool = True
    ) -> Float32Array:
        """Embed tracks.

        Args:
            music: features, float32 [M, Dm].
            genre_group: int64 [M], index of each track's genre group.
            adjusted: whether the effect of the confounders is removed.

        Returns:
            float32 [M, D].
        """
        return self.model.embed_music(music, genre_group, adjusted=adjusted) @ self.rotation


def save_towers(towers: Towers, folder: Path) -> None:
    """Write both forms of both towers to a release folder; equal towers give equal bytes."""
    metadata = {RUN_ID: towers.run_id}
    model = towers.model
    model.save(folder / MODEL)
    rotation = torch.from_numpy(np.ascontiguousarray(towers.rotation))
    with mode_by_umask(folder / ALIGNMENT) as path:
        save_file({"rotation": rotation}, path, metadata=metadata)
    video = torch.zeros(2, model.video_columns)
    tower = _RotatedTower(model.video_tower, rotation)
    _export(tower, (video,), ["features"], folder / VIDEO_TOWER)
    music = (torch.zeros(2, model.music_columns), torch.zeros(2, dtype=torch.int64))
    tower = _RotatedTower(model.music_tower, rotation)
    _export(tower, music, ["features", "genre_group"], folder / MUSIC_TOWER)
    for name in (VIDEO_TOWER, MUSIC_TOWER):
        _add_metadata(folder / name, metadata)


def load_towers(folder: Path) -> Towers:
    """Read the towers of a release from their safetensors form.

    Raises:
        ReleaseError: a file is missing or damaged.
    """
    try:
        model = Model.load(folder / MODEL)
        rotation = load_file(folder / ALIGNMENT)["rotation"].numpy()
        with safe_open(folder / ALIGNMENT, framework="np") as file:
            run_id = str(file.metadata()[RUN_ID])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReleaseError(f"cannot read the towers: {error}", where=str(folder)) from error
    return Towers(model, rotation, run_id)


def _export(tower: nn.Module, inputs: tuple[Tensor, ...], names: list[str], path: Path) -> None:
    with warnings.catch_warnings():
        # torch deprecates this exporter, but the newer one writes other bytes on every call.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            tower.cpu().eval(),
            inputs,
            str(path),
            input_names=names,
            output_names=["embedding"],
            dynamic_axes={name: {0: "rows"} for name in [*names, "embedding"]},
            opset_version=OPSET,
            dynamo=False,
        )


def _add_metadata(path: Path, metadata: dict[str, str]) -> None:
    document = onnx.load(str(path))
    for key, value in metadata.items():
        entry = document.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(document, str(path))
