"""What a frozen teacher says of the training videos and tracks: computed once, then looked up."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from models.arrays import Float32Array, Int64Array
from models.data import TrainingData

Embed = Callable[[Tensor], Tensor]

_PART = 8192
"""Rows embedded at once: what bounds the memory while a catalogue is embedded."""


def take(array: Float32Array, rows: Int64Array, device: torch.device) -> Tensor:
    """Return float32[n, columns]: a copy of the named rows; the array may be memory-mapped."""
    return torch.from_numpy(np.take(array, rows, axis=0)).to(device)


class Taught:
    """A teacher's embeddings of every video that is trained on and of every track."""

    @torch.no_grad()
    def __init__(
        self, of_video: Embed, of_music: Embed, data: TrainingData, device: torch.device
    ) -> None:
        """Embed all; the teacher must be in eval mode.

        Args:
            of_video: from raw features [n, Dv] to [n, K].
            of_music: from raw features [n, Dm] to [n, K].
            data: features and training picks.
            device: where the embeddings are kept.
        """
        used = np.unique(data.train.video)
        self._place = np.full(len(data.video), -1, dtype=np.int64)
        self._place[used] = np.arange(len(used))
        self._video = _in_parts(of_video, data.video, used, device)
        self._music = _in_parts(of_music, data.music, np.arange(len(data.music)), device)

    def video(self, rows: Int64Array) -> Tensor:
        """Return [n, K] of training videos, int64[n] rows of the features."""
        return self._video[torch.from_numpy(self._place[rows]).to(self._video.device)]

    def music(self, rows: Int64Array) -> Tensor:
        """Return [n, K] of tracks, int64[n] rows of the features."""
        return self._music[torch.from_numpy(rows).to(self._music.device)]


def _in_parts(embed: Embed, array: Float32Array, rows: Int64Array, device: torch.device) -> Tensor:
    """Return embed(array[rows]), a part of the rows at a time."""
    parts = [rows[start : start + _PART] for start in range(0, len(rows), _PART)]
    return torch.cat([embed(take(array, part, device)) for part in parts])
