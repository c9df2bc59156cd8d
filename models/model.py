"""Embeds and ranks with a trained model; saves and loads it without pickle."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.arrays import Float32Array, Int64Array
from models.config import ModelConfig
from models.registry import variant_of
from models.tensor_files import mode_by_umask
from models.variant import Network, Stage, device_of

WEIGHTS = "weights.safetensors"
DESCRIPTION = "model.json"

# Fields that ModelConfig no longer has; models saved with them can still be loaded.
REMOVED_FIELDS = ("candidates",)

# Rows embedded at a time, to bound memory.
_CHUNK = 8192


@dataclass(frozen=True)
class EpochLog:
    """Measures of one epoch of training.

    Attributes:
        stage: which network was trained.
        epoch: 0-based.
        losses: mean of each loss over the epoch's steps, before weighting.
        validation: the selection metric, in 0..1; None without validation picks.
        seconds: wall time of the epoch.
    """

    stage: Stage
    epoch: int
    losses: dict[str, float]
    validation: float | None
    seconds: float

    def __str__(self) -> str:
        losses = ", ".join(f"{name} {value:.4f}" for name, value in self.losses.items())
        metric = "" if self.validation is None else f", validation {self.validation:.4f}"
        return f"{self.stage} epoch {self.epoch}: {losses}{metric}, {self.seconds:.1f} s"


class VideoTower(nn.Module):
    """Maps raw video features float32[B, Dv] to serving embeddings float32[B, D]."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, rows: Tensor) -> Tensor:
        """Return float32[B, D]."""
        return self.network.embed_video(rows)


class MusicTower(nn.Module):
    """Maps raw music features float32[B, Dm] and genre groups int64[B] to float32[B, D]."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, rows: Tensor, genre_group: Tensor) -> Tensor:
        """Return float32[B, D], with backdoor adjustment."""
        return self.network.embed_music(rows, genre_group)


@dataclass
class Model:
    """A network with its configuration.

    The debiased score of a video and a track is the dot product of their embeddings, so any
    inner-product index can serve it.

    Attributes:
        network: in eval mode.
        config: configuration of the training.
        video_columns: Dv.
        music_columns: Dm.
        n_groups: G.
        student_share: position on the line from the teacher (0) to the trained student (1), in
            0..1.25 (`models.interpolation`); 1 without a teacher.
        teacher_weight: weight of the distillation as a share of `config.distill_weight`: 1, or
            less if the teacher held the student back (`models.student_selection`); 0 without a
            teacher.
        training_log: one entry per epoch of the training; empty after `load`.
    """

    network: Network
    config: ModelConfig
    video_columns: int
    music_columns: int
    n_groups: int
    student_share: float = 1.0
    teacher_weight: float = 0.0
    training_log: list[EpochLog] = field(default_factory=list)

    @property
    def video_tower(self) -> VideoTower:
        """The module from raw video features to embeddings, for example for torch.onnx.export."""
        return VideoTower(self.network).eval()

    @property
    def music_tower(self) -> MusicTower:
        """The module from raw music features and genre group to embeddings."""
        return MusicTower(self.network).eval()

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return device_of(self.network)

    @torch.inference_mode()
    def embed_videos(self, video: Float32Array) -> Float32Array:
        """Embed videos.

        Args:
            video: float32[N, Dv], raw features; NaN is replaced by the column's mean.

        Returns:
            float32[N, D].

        Raises:
            ValueError: the number of columns differs from that of the training.
        """
        self._check("video", video, self.video_columns)
        self.network.eval()
        parts = [
            self.network.embed_video(self._tensor(video[start : start + _CHUNK])).cpu().numpy()
            for start in range(0, max(len(video), 1), _CHUNK)
        ]
        return np.concatenate(parts)

    @torch.inference_mode()
    def embed_music(
        self, music: Float32Array, genre_group: Int64Array, *, adjusted: bool = True
    ) -> Float32Array:
        """Embed tracks.

        Args:
            music: float32[M, Dm], raw features; NaN is replaced by the column's mean.
            genre_group: int64[M], in 0..G-1.
            adjusted: False keeps the confounders' effect, like a model without backdoor
                adjustment. The difference between the two scores is the effect of debiasing.

        Returns:
            float32[M, D].

        Raises:
            ValueError: a number of columns or of rows is wrong, or a genre group is out of range.
        """
        self._check("music", music, self.music_columns)
        if len(genre_group) != len(music):
            raise ValueError(f"{len(music)} tracks but {len(genre_group)} genre groups")
        if len(genre_group) and not 0 <= genre_group.min() <= genre_group.max() < self.n_groups:
            raise ValueError(f"genre_group must be in 0..{self.n_groups - 1}")
        self.network.eval()
        parts = []
        for start in range(0, max(len(music), 1), _CHUNK):
            rows = slice(start, start + _CHUNK)
            group = torch.from_numpy(np.array(genre_group[rows], dtype=np.int64)).to(self.device)
            embedded = self.network.embed_music(self._tensor(music[rows]), group, adjusted)
            parts.append(embedded.cpu().numpy())
        return np.concatenate(parts)

    def rank(
        self, video: Float32Array, music: Float32Array, genre_group: Int64Array, top: int
    ) -> tuple[Int64Array, Float32Array]:
        """Recommend tracks for videos.

        Args:
            video: float32[N, Dv], raw features.
            music: float32[M, Dm], raw features.
            genre_group: int64[M].
            top: length of each list, at most M.

        Returns:
            (indices int64[N, top], scores float32[N, top]), best first; ties go to the
            lower index.
        """
        tracks = self.embed_music(music, genre_group)
        videos = self.embed_videos(video)
        top = min(top, len(tracks))
        indices = np.empty((len(videos), top), dtype=np.int64)
        scores = np.empty((len(videos), top), dtype=np.float32)
        for start in range(0, len(videos), _CHUNK):
            rows = slice(start, start + _CHUNK)
            block = videos[rows] @ tracks.T
            indices[rows] = np.argsort(-block, axis=1, kind="stable")[:, :top]
            scores[rows] = np.take_along_axis(block, indices[rows], axis=1)
        return indices, scores

    def save(self, folder: Path) -> None:
        """Write weights.safetensors and model.json; equal models give equal bytes.

        Args:
            folder: created if missing; existing files are replaced. Its parent is not created,
                because it may be on a disk that was unmounted.

        Raises:
            FileNotFoundError: the parent folder is missing.
        """
        folder.mkdir(exist_ok=True)
        weights = {
            name: value.detach().cpu().contiguous()
            for name, value in sorted(self.network.state_dict().items())
        }
        with mode_by_umask(folder / WEIGHTS) as path:
            save_file(weights, path)
        described = {
            "format": 1,
            "config": self.config.model_dump(mode="json"),
            "video_columns": self.video_columns,
            "music_columns": self.music_columns,
            "n_groups": self.n_groups,
            "share": self.student_share,
            "teaching": self.teacher_weight,
        }
        text = json.dumps(described, indent=1, sort_keys=True) + "\n"
        (folder / DESCRIPTION).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Model:
        """Load a model that `save` wrote.

        Args:
            folder: contains weights.safetensors and model.json.
            device: torch device for the weights.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: the format is unknown, or the weights do not match the description.
        """
        described = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if described.get("format") != 1:
            raise ValueError(
                f"{folder / DESCRIPTION} has format {described.get('format')}; this version reads "
                "format 1.\nTrain the model again, or use the version of debcm that wrote it."
            )
        known = {k: v for k, v in described["config"].items() if k not in REMOVED_FIELDS}
        config = ModelConfig.model_validate(known)
        sizes = (described["video_columns"], described["music_columns"], described["n_groups"])
        network: Network = variant_of(config).build_network(*sizes, config)
        try:
            network.load_state_dict(load_file(folder / WEIGHTS))
        except RuntimeError as error:
            raise ValueError(
                f"{folder / WEIGHTS} does not match {DESCRIPTION} in the same folder: {error}"
            ) from error
        return cls(
            network.to(device).eval(),
            config,
            *sizes,
            student_share=described.get("share", 1.0),
            # Models saved without this field were trained with the full weight of the teacher.
            teacher_weight=described.get("teaching", float(config.uses_teacher)),
        )

    def _check(self, name: str, rows: Float32Array, columns: int) -> None:
        if rows.ndim != 2 or rows.shape[1] != columns:
            raise ValueError(
                f"{name} features must have shape (n, {columns}) as in training, got {rows.shape}"
            )

    def _tensor(self, rows: Float32Array) -> Tensor:
        return torch.from_numpy(np.array(rows, dtype=np.float32)).to(self.device)
