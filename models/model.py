"""A trained model: embeddings whose dot product is the debiased score; saved without pickle."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.arrays import Float32Array, Int64Array
from models.config import ModelConfig
from models.networks import Network, build_network, device_of

WEIGHTS = "weights.safetensors"
DESCRIPTION = "model.json"

RETIRED = ("candidates",)
"""Fields of a configuration that are no more: a model trained with one is still read."""

_ROWS = 8192
"""Rows embedded at a time: bounds memory, changes no result."""


@dataclass(frozen=True)
class EpochLog:
    """What one epoch of training did.

    Attributes:
        stage: "teacher" or "student".
        epoch: 0-based.
        losses: mean of each loss over the epoch's steps, before weighting.
        validation: the selection metric, or None without validation rows.
        seconds: wall time of the epoch.
    """

    stage: str
    epoch: int
    losses: dict[str, float]
    validation: float | None
    seconds: float


class VideoTower(nn.Module):
    """Raw video features float32[B, Dv] to serving embeddings float32[B, D]."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, rows: Tensor) -> Tensor:
        """Return float32[B, D]."""
        return self.network.embed_video(rows)


class MusicTower(nn.Module):
    """Raw music features float32[B, Dm] and genre group int64[B] to float32[B, D]."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, rows: Tensor, genre_group: Tensor) -> Tensor:
        """Return float32[B, D], adjusted."""
        return self.network.embed_music(rows, genre_group)


@dataclass
class Model:
    """A network with its configuration.

    The debiased score of a video and a track is exactly the dot product of their
    embeddings, so any inner-product index serves it.

    Attributes:
        network: in eval mode.
        config: what it was trained with.
        video_columns: Dv.
        music_columns: Dm.
        n_groups: G.
        share: how far a student went from its teacher (`models.interpolation`); 1 without one.
        teaching: weight of the teacher's word, as a share of `config.distill_weight`: 1, or less
            where it held the student back (`models.train`); 0 without one.
        history: one entry per epoch of the training that made it; empty after `load`.
    """

    network: Network
    config: ModelConfig
    video_columns: int
    music_columns: int
    n_groups: int
    share: float = 1.0
    teaching: float = 0.0
    history: list[EpochLog] = field(default_factory=list)

    @property
    def video_tower(self) -> VideoTower:
        """The module from raw video features to embeddings, for torch.onnx.export."""
        return VideoTower(self.network).eval()

    @property
    def music_tower(self) -> MusicTower:
        """The module from raw music features and genre group to embeddings."""
        return MusicTower(self.network).eval()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return device_of(self.network)

    @torch.inference_mode()
    def embed_videos(self, video: Float32Array) -> Float32Array:
        """Embed videos.

        Args:
            video: float32[N, Dv], raw features; NaN counts as the column's mean.

        Returns:
            float32[N, D].

        Raises:
            ValueError: the number of columns is not the one trained on.
        """
        self._check("video", video, self.video_columns)
        self.network.eval()
        parts = [
            self.network.embed_video(self._tensor(video[start : start + _ROWS])).cpu().numpy()
            for start in range(0, max(len(video), 1), _ROWS)
        ]
        return np.concatenate(parts)

    @torch.inference_mode()
    def embed_music(
        self, music: Float32Array, genre_group: Int64Array, *, adjusted: bool = True
    ) -> Float32Array:
        """Embed tracks.

        Args:
            music: float32[M, Dm], raw features; NaN counts as the column's mean.
            genre_group: int64[M], in 0..G-1.
            adjusted: False leaves the confounders' effect in, as a model without backdoor
                adjustment would; the difference of the two scores is what debiasing took.

        Returns:
            float32[M, D].

        Raises:
            ValueError: wrong number of columns, or a genre group out of range.
        """
        self._check("music", music, self.music_columns)
        if len(genre_group) != len(music):
            raise ValueError(f"{len(music)} tracks but {len(genre_group)} genre groups")
        if len(genre_group) and not 0 <= genre_group.min() <= genre_group.max() < self.n_groups:
            raise ValueError(f"genre_group must lie in 0..{self.n_groups - 1}")
        self.network.eval()
        parts = []
        for start in range(0, max(len(music), 1), _ROWS):
            rows = slice(start, start + _ROWS)
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
        for start in range(0, len(videos), _ROWS):
            rows = slice(start, start + _ROWS)
            block = videos[rows] @ tracks.T
            indices[rows] = np.argsort(-block, axis=1, kind="stable")[:, :top]
            scores[rows] = np.take_along_axis(block, indices[rows], axis=1)
        return indices, scores

    def save(self, folder: Path) -> None:
        """Write weights.safetensors and model.json; equal models give equal bytes.

        Args:
            folder: made if missing, though not the one above, which may have gone away; files of
                the same names are replaced.
        """
        folder.mkdir(exist_ok=True)
        weights = {
            name: value.detach().cpu().contiguous()
            for name, value in sorted(self.network.state_dict().items())
        }
        save_file(weights, folder / WEIGHTS)
        described = {
            "format": 1,
            "config": self.config.model_dump(mode="json"),
            "video_columns": self.video_columns,
            "music_columns": self.music_columns,
            "n_groups": self.n_groups,
            "share": self.share,
            "teaching": self.teaching,
        }
        text = json.dumps(described, indent=1, sort_keys=True) + "\n"
        (folder / DESCRIPTION).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> "Model":
        """Read a model that `save` wrote.

        Args:
            folder: holds weights.safetensors and model.json.
            device: torch device to put the weights on.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: the format is unknown, or the weights do not fit the description.
        """
        described = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if described.get("format") != 1:
            raise ValueError(
                f"{folder / DESCRIPTION} has format {described.get('format')}, this code reads 1: "
                "train the model again or use the release's own version"
            )
        known = {k: v for k, v in described["config"].items() if k not in RETIRED}
        config = ModelConfig.model_validate(known)
        sizes = (described["video_columns"], described["music_columns"], described["n_groups"])
        network = build_network(*sizes, config)
        try:
            network.load_state_dict(load_file(folder / WEIGHTS))
        except RuntimeError as error:
            raise ValueError(
                f"{folder / WEIGHTS} does not fit {DESCRIPTION} beside it: {error}"
            ) from error
        share = described.get("share", 1.0)
        # Before there was a choice, a teacher spoke at its full weight.
        teaching = described.get("teaching", float(config.taught))
        return cls(network.to(device).eval(), config, *sizes, share=share, teaching=teaching)

    def _check(self, name: str, rows: Float32Array, columns: int) -> None:
        if rows.ndim != 2 or rows.shape[1] != columns:
            raise ValueError(
                f"{name} features must have shape (n, {columns}) as in training, got {rows.shape}"
            )

    def _tensor(self, rows: Float32Array) -> Tensor:
        return torch.from_numpy(np.array(rows, dtype=np.float32)).to(self.device)
