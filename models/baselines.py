"""Scores tracks by baselines, which a model has to beat.

A scorer takes raw video features float32[n, Dv] and returns scores float32[n, M] of all tracks,
higher is better. The learned baselines are the model's own code with switches off
(`baseline_config`).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import numpy as np
import torch

from models.arrays import Float32Array, Float64Array
from models.config import ModelConfig
from models.data import TrainingData
from models.model import Model
from models.objectives import popularity_of
from models.standardise import Standardise

Scorer = Callable[[Float32Array], Float32Array]

# Ridge of the closed-form baselines, in units of a standardised column's variance.
_RIDGE = 1e-2


def model_scorer(model: Model, data: TrainingData) -> Scorer:
    """Score with a trained model, student or teacher."""
    tracks = model.embed_music(data.music, data.genre_group)
    return lambda video: model.embed_videos(video) @ tracks.T


def random_scorer(data: TrainingData, seed: int) -> Scorer:
    """Score at random, differently for every video; the same seed gives the same scores."""
    rng = np.random.default_rng(seed)
    return lambda video: rng.random((len(video), len(data.music)), dtype=np.float32)


def popularity_scorer(data: TrainingData) -> Scorer:
    """Score each track by its share of the training picks; all videos get the same scores."""
    popularity = popularity_of(data.train, len(data.music))
    return lambda video: np.tile(popularity, (len(video), 1))


def genre_popularity_scorer(data: TrainingData) -> Scorer:
    """Score by P(genre group | video) x popularity within the group.

    The genre of the picked track is regressed (ridge) on the video's features.
    """
    columns = _Columns(data.video[np.unique(data.train.video)])
    x = columns.standard(data.video[data.train.video])
    picked = data.genre_group[data.train.music]
    target = np.eye(data.n_groups)[picked]
    ridge = len(x) * _RIDGE * np.eye(x.shape[1])
    weights = np.linalg.solve(x.T @ x + ridge, x.T @ (target - target.mean(axis=0)))
    popularity = popularity_of(data.train, len(data.music)).astype(np.float64)
    total = np.bincount(data.genre_group, popularity, minlength=data.n_groups)
    within = popularity / total[data.genre_group]

    def score(video: Float32Array) -> Float32Array:
        genre = np.clip(columns.standard(video) @ weights + target.mean(axis=0), 1e-6, None)
        scores: Float32Array = (genre[:, data.genre_group] * within).astype(np.float32)
        return scores

    return score


def cca_scorer(data: TrainingData, dim: int) -> Scorer:
    """Score by the cosine of canonical variates (Hotelling, 1936) of the picked pairs.

    Args:
        data: pairs are the training picks.
        dim: number of canonical directions, at most the smaller number of columns.
    """
    video, music = _Columns(data.video[data.train.video]), _Columns(data.music)
    x, y = video.standard(data.video[data.train.video]), music.standard(data.music)
    x_white, y_white = _whitening(x), _whitening(y[data.train.music])
    cross = x_white.T @ (x.T @ y[data.train.music] / len(x)) @ y_white
    left, strength, right = np.linalg.svd(cross, full_matrices=False)
    x_map = x_white @ left[:, :dim] * strength[:dim]
    tracks = _unit(y @ y_white @ right[:dim].T)

    def score(rows: Float32Array) -> Float32Array:
        scores: Float32Array = (_unit(video.standard(rows) @ x_map) @ tracks.T).astype(np.float32)
        return scores

    return score


class LearnedBaseline(StrEnum):
    """Baselines that are trained; the values are the names in tables of results."""

    DUAL_ENCODER = "dual encoder"
    IPS = "ips"
    DISTILLED_WITHOUT_PICKS = "distilled without picks"


def baseline_config(baseline: LearnedBaseline, config: ModelConfig) -> ModelConfig:
    """Return the configuration of a learned baseline with the sizes of `config` (`debcm`).

    The dual encoder is InfoNCE within the batch and nothing else. IPS also weights its rows by
    inverse propensity. Distilled without picks learns the teacher's scores on UGC videos and
    ignores the picks.
    """
    if baseline == LearnedBaseline.DISTILLED_WITHOUT_PICKS:
        return config.model_copy(update={"picks_weight": 0.0})
    plain = {
        "teacher": False,
        "distill": "none",
        "adjustment": "none",
        "popularity": False,
        "masking": False,
        "contrast": "batch",
        "ips": baseline == LearnedBaseline.IPS,
    }
    return config.model_copy(update=plain)


class _Columns:
    """Standardises raw columns in the same way as the towers."""

    def __init__(self, rows: Float32Array) -> None:
        self._standardise = Standardise(rows.shape[1])
        self._standardise.fit(torch.from_numpy(rows))

    def standard(self, rows: Float32Array) -> Float64Array:
        """Return float64[n, columns]."""
        standard: Float64Array = self._standardise(torch.from_numpy(rows)).double().numpy()
        return standard


def _whitening(rows: Float64Array) -> Float64Array:
    """Return [columns, columns]: the inverse square root of the covariance plus ridge."""
    covariance = rows.T @ rows / len(rows) + _RIDGE * np.eye(rows.shape[1])
    values, vectors = np.linalg.eigh(covariance)
    whitening: Float64Array = vectors / np.sqrt(values) @ vectors.T
    return whitening


def _unit(rows: Float64Array) -> Float64Array:
    """Scale rows to length one."""
    scaled: Float64Array = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return scaled
