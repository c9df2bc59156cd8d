"""What a model must beat. Every scorer maps raw video features to scores of all tracks.

A scorer takes float32[n, Dv] and returns float32[n, M], higher is better. The learned
baselines are the model's own code with switches off (`baseline_config`).
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch

from models.arrays import Float32Array, Float64Array
from models.config import ModelConfig
from models.data import TrainingData
from models.model import Model
from models.networks import Standardise
from models.objectives import popularity_of

Scorer = Callable[[Float32Array], Float32Array]

_RIDGE = 1e-2
"""Ridge of the closed-form baselines, in units of a standardised column's variance."""


def model_scorer(model: Model, data: TrainingData) -> Scorer:
    """Score with a trained model: a student, or a teacher alone."""
    tracks = model.embed_music(data.music, data.genre_group)
    return lambda video: model.embed_videos(video) @ tracks.T


def random_scorer(data: TrainingData, seed: int) -> Scorer:
    """Score at random, anew for every video; the same seed gives the same scores."""
    rng = np.random.default_rng(seed)
    return lambda video: rng.random((len(video), len(data.music)), dtype=np.float32)


def popularity_scorer(data: TrainingData) -> Scorer:
    """Score every track by its share of the training picks, the same for all videos."""
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
        dim: canonical directions kept, at most the smaller number of columns.
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


LearnedBaseline = Literal["dual encoder", "ips", "distilled without picks"]


def baseline_config(name: LearnedBaseline, config: ModelConfig) -> ModelConfig:
    """Return the configuration of a learned baseline, sized like `config` (`debcm`).

    "dual encoder" is InfoNCE within the batch and nothing else; "ips" weights its rows by
    inverse propensity; "distilled without picks" learns the teacher's scores on the UGC
    videos and ignores what uploaders picked.
    """
    if name == "distilled without picks":
        return config.model_copy(update={"picks_weight": 0.0})
    plain = {
        "teacher": False,
        "distill": "none",
        "adjustment": "none",
        "popularity": False,
        "masking": False,
        "contrast": "batch",
        "ips": name == "ips",
    }
    return config.model_copy(update=plain)


class _Columns:
    """The towers' own standardisation of raw columns."""

    def __init__(self, rows: Float32Array) -> None:
        self._standardise = Standardise(rows.shape[1])
        self._standardise.fit(torch.from_numpy(rows))

    def standard(self, rows: Float32Array) -> Float64Array:
        """Return float64[n, columns]."""
        standard: Float64Array = self._standardise(torch.from_numpy(rows)).double().numpy()
        return standard


def _whitening(rows: Float64Array) -> Float64Array:
    """Return [columns, columns]: the ridged inverse square root of the covariance."""
    covariance = rows.T @ rows / len(rows) + _RIDGE * np.eye(rows.shape[1])
    values, vectors = np.linalg.eigh(covariance)
    whitening: Float64Array = vectors / np.sqrt(values) @ vectors.T
    return whitening


def _unit(rows: Float64Array) -> Float64Array:
    """Scale rows to length one."""
    scaled: Float64Array = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return scaled
