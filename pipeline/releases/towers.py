"""The two towers of a release: a model and the rotation that keeps its axes.

A release holds them twice: `model/` (safetensors and JSON, read by `models.Model`) with
`alignment.safetensors` beside it, and `video_tower.onnx` and `music_tower.onnx`, which need
nothing but ONNX Runtime. Both carry the id of the run that trained them.
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
from pipeline.errors import ReleaseError
from pipeline.releases.onnx_towers import MUSIC_TOWER, RUN_ID, VIDEO_TOWER

MODEL = "model"
ALIGNMENT = "alignment.safetensors"
OPSET = 17

_ROWS = 65_536


class _Rotated(nn.Module):
    """A tower whose embeddings are turned by a fixed orthogonal map."""

    rotation: Tensor

    def __init__(self, tower: nn.Module, rotation: Tensor) -> None:
        super().__init__()
        self.tower = tower
        self.register_buffer("rotation", rotation)

    def forward(self, *inputs: Tensor) -> Tensor:
        """The tower's float32 [B, D], rotated."""
        turned: Tensor = self.tower(*inputs) @ self.rotation
        return turned


@dataclass(frozen=True)
class Towers:
    """A trained model on a release's axes.

    Attributes:
        model: as trained.
        rotation: float32 [D, D], orthogonal.
        run_id: the run that trained it.
    """

    model: Model
    rotation: Float32Array
    run_id: str

    def embed_videos(self, video: Float32Array) -> Float32Array:
        """Raw features float32 [N, Dv] to embeddings float32 [N, D]."""
        embeddings = np.empty((len(video), self.rotation.shape[1]), dtype=np.float32)
        # A catalogue's videos as the model gives them would be a second such array.
        for start in range(0, len(video), _ROWS):
            rows = slice(start, start + _ROWS)
            np.matmul(self.model.embed_videos(video[rows]), self.rotation, out=embeddings[rows])
        return embeddings

    def embed_music(
        self, music: Float32Array, genre_group: Int64Array, *, adjusted: bool = True
    ) -> Float32Array:
        """Raw features float32 [M, Dm] and groups int64 [M] to embeddings float32 [M, D]."""
        return self.model.embed_music(music, genre_group, adjusted=adjusted) @ self.rotation


def save_towers(towers: Towers, folder: Path) -> None:
    """Write both forms of both towers into a release folder; equal towers, equal bytes."""
    metadata = {RUN_ID: towers.run_id}
    model = towers.model
    model.save(folder / MODEL)
    rotation = torch.from_numpy(np.ascontiguousarray(towers.rotation))
    save_file({"rotation": rotation}, folder / ALIGNMENT, metadata=metadata)
    video = torch.zeros(2, model.video_columns)
    _export(_Rotated(model.video_tower, rotation), (video,), ["features"], folder / VIDEO_TOWER)
    music = (torch.zeros(2, model.music_columns), torch.zeros(2, dtype=torch.int64))
    inputs = ["features", "genre_group"]
    _export(_Rotated(model.music_tower, rotation), music, inputs, folder / MUSIC_TOWER)
    for name in (VIDEO_TOWER, MUSIC_TOWER):
        _sign(folder / name, metadata)


def load_towers(folder: Path) -> Towers:
    """Read the towers of a release back from their safetensors form.

    Raises:
        ReleaseError: a file is missing, or does not fit the others.
    """
    try:
        model = Model.load(folder / MODEL)
        rotation = load_file(folder / ALIGNMENT)["rotation"].numpy()
        with safe_open(folder / ALIGNMENT, framework="np") as file:
            run_id = str(file.metadata()[RUN_ID])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReleaseError(f"towers cannot be read: {error}", where=str(folder)) from error
    return Towers(model, rotation, run_id)


def _export(tower: nn.Module, inputs: tuple[Tensor, ...], names: list[str], path: Path) -> None:
    with warnings.catch_warnings():
        # torch calls this exporter old; the newer one writes other bytes at every call.
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


def _sign(path: Path, metadata: dict[str, str]) -> None:
    document = onnx.load(str(path))
    for key, value in metadata.items():
        entry = document.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(document, str(path))
