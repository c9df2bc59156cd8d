"""Defines the interface of a variant: its network, objectives, schedule and serving terms.

`models.debcm` and `models.paper` implement it; `models.registry.variant_of` returns the
implementation that a configuration names. Shapes: B rows, D dimensions, G genre groups.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import StrEnum
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from models.config import ModelConfig
from models.data import TrainingData
from models.standardise import Standardise


class Stage(StrEnum):
    """The two trainings, in their order; the position enters a stage's random seeds."""

    TEACHER = "teacher"
    STUDENT = "student"

    @property
    def position(self) -> int:
        """0 for the teacher, 1 for the student."""
        return list(Stage).index(self)


class Encoder(nn.Module):
    """Base class of an encoder of one modality; standardises raw features first."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.standardise = Standardise(columns)


class Network(nn.Module):
    """Base class of a variant's network, which maps raw features to serving embeddings.

    The score of a video and a track is the dot product of their embeddings.

    Attributes:
        video: encoder of video features.
        music: encoder of music features.
    """

    video: Encoder
    music: Encoder

    def embed_video(self, rows: Tensor) -> Tensor:
        """Return the embeddings float32[B, K] of raw video features float32[B, Dv]."""
        raise NotImplementedError

    def embed_music(self, rows: Tensor, genre_group: Tensor, adjusted: bool = True) -> Tensor:
        """Return the embeddings of tracks.

        Args:
            rows: float32[B, Dm], raw music features.
            genre_group: int64[B].
            adjusted: False returns embeddings without backdoor adjustment.

        Returns:
            float32[B, K], as many columns as `embed_video` returns.
        """
        raise NotImplementedError

    def set_population(self, preference: Tensor) -> None:
        """Store the population's genre preference [G], if the network serves by it."""

    def explaining_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that explain picks besides the match; none by default."""
        return []


class Objective(nn.Module):
    """Base class of an objective: `forward(rows)` returns the named losses of one step.

    Rows are int64[B] rows of the stage's training pairs; each loss is a scalar.

    Attributes:
        network: the network that is trained.
        weights: the weight of each loss in the sum that is minimised.
    """

    network: Network
    weights: dict[str, float]


N = TypeVar("N", bound=Network)


class Variant(ABC, Generic[N]):
    """Everything in which one variant of the model differs from the others.

    Attributes:
        interpolates: whether students may be moved towards their teacher
            (`models.student_selection`).
    """

    interpolates: ClassVar[bool] = False

    @abstractmethod
    def build_network(
        self, video_columns: int, music_columns: int, n_groups: int, config: ModelConfig
    ) -> N:
        """Return an untrained network; first weights are drawn from torch's random state."""

    @abstractmethod
    def prepare_teacher(self, network: N, data: TrainingData, config: ModelConfig) -> Objective:
        """Prepare a network to be trained on PGC segments and return its objective."""

    @abstractmethod
    def prepare_student(
        self, network: N, teacher: N | None, data: TrainingData, config: ModelConfig
    ) -> Objective:
        """Prepare a network to be trained on picks and return its objective.

        Args:
            network: of the student, changed in place.
            teacher: trained network that guides the student, not changed; or None.
            data: features and picks.
            config: variant and switches.
        """

    def learning_rate_factor(self, step: int, total: int) -> float:
        """Return the factor of the learning rate in a step of 0..total-1; 1 by default."""
        return 1.0

    def fit_serving_terms(self, network: N, data: TrainingData, config: ModelConfig) -> None:
        """Set what a trained student adds to its scores when it serves; nothing by default."""


def device_of(network: Network) -> torch.device:
    """Return the device that holds a network's weights."""
    return network.video.standardise.mean.device
