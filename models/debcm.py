"""Implements the default variant, `debcm`: what its stages train and what it serves.

The parts are in `models.networks`, `models.objectives` and `models.pick_explanation`.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from models.config import ModelConfig
from models.data import TrainingData
from models.networks import DebcmNetwork
from models.objectives import PickChoice, SegmentContrast, popularity_of
from models.pick_explanation import fit_before_training
from models.variant import Objective, Variant, device_of

# Share of a training's steps in which the learning rate rises.
_WARM_UP = 0.1


class Debcm(Variant[DebcmNetwork]):
    """The default variant."""

    interpolates: ClassVar[bool] = True

    def build_network(
        self, video_columns: int, music_columns: int, n_groups: int, config: ModelConfig
    ) -> DebcmNetwork:
        """Return two untrained towers."""
        return DebcmNetwork(video_columns, music_columns, n_groups, config)

    def prepare_teacher(
        self, network: DebcmNetwork, data: TrainingData, config: ModelConfig
    ) -> Objective:
        """Return the contrast of pictures and sounds of PGC segments."""
        return SegmentContrast(network, data)

    def prepare_student(
        self,
        network: DebcmNetwork,
        teacher: DebcmNetwork | None,
        data: TrainingData,
        config: ModelConfig,
    ) -> Objective:
        """Copy the teacher, fit the explaining parameters, and return the objective over picks."""
        network.centre_on(latest_preferences(data).to(device_of(network)))
        if teacher is not None:
            network.start_from(teacher)
        objective = PickChoice(network, teacher, data, config)
        if config.picks_weight > 0:
            fit_before_training(objective)
        return objective

    def learning_rate_factor(self, step: int, total: int) -> float:
        """Return a linear warm-up, then a cosine to zero; in 0..1."""
        warm_up = max(1, round(_WARM_UP * total))
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.5 * (1.0 + math.cos(math.pi * (step - warm_up) / max(1, total - warm_up)))

    def fit_serving_terms(
        self, network: DebcmNetwork, data: TrainingData, config: ModelConfig
    ) -> None:
        """Set the genre terms of serving: `adjustment`, and `naive` for unadjusted scores."""
        device = device_of(network)
        share = np.bincount(data.genre_group, minlength=data.n_groups) / len(data.genre_group)
        if config.adjustment == "probability":
            group_share = torch.from_numpy(share.astype(np.float32)).to(device)
            network.fit_adjustment(latest_preferences(data).to(device), group_share)
        with torch.no_grad():
            if config.adjustment != "none":
                network.naive += network.lean
            if config.popularity:
                network.naive += network.popularity * _group_popularity(data).to(device)


DEBCM = Debcm()


def latest_preferences(data: TrainingData) -> Tensor:
    """Return float32[U, G]: the latest preference of each uploader of the training picks."""
    train = data.train
    order = np.lexsort((train.time, train.uploader))
    last = np.append(np.diff(train.uploader[order]) != 0, True)
    return torch.from_numpy(train.preference[order[last]])


def _group_popularity(data: TrainingData) -> Tensor:
    """Return float32[G]: mean log popularity of each group's tracks, minus that of all tracks."""
    log_popularity = np.log(popularity_of(data.train, len(data.music)))
    total = np.bincount(data.genre_group, log_popularity, minlength=data.n_groups)
    mean = total / np.maximum(np.bincount(data.genre_group, minlength=data.n_groups), 1)
    return torch.from_numpy((mean - log_popularity.mean()).astype(np.float32))
