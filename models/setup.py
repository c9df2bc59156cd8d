"""Builds the network that a stage trains: seeded first weights, statistics of the features."""

from __future__ import annotations

import numpy as np
import torch

from models.arrays import Float32Array, Int64Array
from models.config import ModelConfig
from models.data import TrainingData
from models.registry import variant_of
from models.variant import Network, Stage, device_of

# Rows that mean and deviation of the features are computed from, at most, per table.
_STATISTICS_ROWS = 16384


def seed_of(*parts: int) -> int:
    """Return one seed for several numbers; close numbers give unrelated seeds."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def network_for(data: TrainingData, config: ModelConfig, stage: Stage) -> Network:
    """Build an untrained network that standardises by the training features.

    Teacher and student standardise alike, by UGC and PGC rows together. A student can then start
    from its teacher's weights, and a teacher with few segments does not see constant columns.

    Args:
        data: features of videos, tracks and segments.
        config: variant, sizes, seed and device.
        stage: teacher and student have different first weights.
    """
    sizes = (data.video.shape[1], data.music.shape[1], data.n_groups)
    if stage is Stage.TEACHER:
        config = config.model_copy(update={"dropout": config.teacher_dropout})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(config.seed, stage.position))
        network: Network = variant_of(config).build_network(*sizes, config)
        network.to(torch.device(config.device))
    segments = np.arange(len(data.segment_video))
    video = [
        _spread(data.video, np.unique(data.train.video)),
        _spread(data.segment_video, segments),
    ]
    music = [
        _spread(data.music, np.arange(len(data.music))),
        _spread(data.segment_music, segments),
    ]
    device = device_of(network)
    network.video.standardise.fit(torch.from_numpy(np.vstack(video)).to(device))
    network.music.standardise.fit(torch.from_numpy(np.vstack(music)).to(device))
    network.set_population(torch.from_numpy(data.population_preference))
    return network


def _spread(array: Float32Array, rows: Int64Array) -> Float32Array:
    """Return at most 16,384 of the rows, evenly spread."""
    step = max(1, -(-len(rows) // _STATISTICS_ROWS))
    return np.take(array, rows[::step], axis=0)
