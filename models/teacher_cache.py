"""Caches a frozen teacher's embeddings of the training videos and of all tracks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from models.arrays import Float32Array, Int64Array
from models.data import TrainingData

Embed = Callable[[Tensor], Tensor]

# Rows embedded at a time; bounds the memory needed to embed a catalogue.
_CHUNK = 8192


def take(array: Float32Array, rows: Int64Array, device: torch.device) -> Tensor:
    """Return float32[n, columns]: a copy of the given rows; the array may be memory-mapped."""
    return torch.from_numpy(np.take(array, rows, axis=0)).to(device)


class TeacherCache:
    """A teacher's embeddings, computed once; training steps look them up."""

    @torch.no_grad()
    def __init__(
        self, embed_video: Embed, embed_music: Embed, data: TrainingData, device: torch.device
    ) -> None:
        """Embed all training videos and all tracks; the teacher must be in eval mode.

        Args:
            embed_video: from raw features [n, Dv] to [n, K].
            embed_music: from raw features [n, Dm] to [n, K].
            data: features and training picks.
            device: where the embeddings are kept.
        """
        used = np.unique(data.train.video)
        self._position = np.full(len(data.video), -1, dtype=np.int64)
        self._position[used] = np.arange(len(used))
        self._video = _in_chunks(embed_video, data.video, used, device)
        self._music = _in_chunks(embed_music, data.music, np.arange(len(data.music)), device)

    def video(self, rows: Int64Array) -> Tensor:
        """Return [n, K] of training videos; int64[n] are rows of `TrainingData.video`."""
        return self._video[torch.from_numpy(self._position[rows]).to(self._video.device)]

    def music(self, rows: Int64Array) -> Tensor:
        """Return [n, K] of tracks; int64[n] are rows of `TrainingData.music`."""
        return self._music[torch.from_numpy(rows).to(self._music.device)]


def _in_chunks(embed: Embed, array: Float32Array, rows: Int64Array, device: torch.device) -> Tensor:
    chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
    return torch.cat([embed(take(array, chunk, device)) for chunk in chunks])
