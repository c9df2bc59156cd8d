"""Before and after training: first weights, statistics of features, terms for serving."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.arrays import Int64Array
from models.config import ModelConfig
from models.data import TrainingData
from models.networks import DebcmNetwork, Network, VariationalNetwork, build_network, device_of
from models.objectives import popularity_of

STAGES = ("teacher", "student")
"""Names of the stages; a stage's place enters its random numbers."""

_STATISTICS_ROWS = 16384


def seed_of(*parts: int) -> int:
    """Return one seed for several numbers; near numbers give unrelated seeds."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def network_for(data: TrainingData, config: ModelConfig, stage: str) -> Network:
    """Return an untrained network that knows mean and spread of the training features.

    Args:
        data: features of videos, tracks and segments.
        config: variant, sizes, seed and device.
        stage: "teacher" or "student", each with first weights of its own.

    Teacher and student standardise alike, over UGC and PGC rows together: a teacher of few
    segments then meets no column it takes for constant, and the student can start from it.
    """
    sizes = (data.video.shape[1], data.music.shape[1], data.n_groups)
    if stage == "teacher":
        config = config.model_copy(update={"dropout": config.teacher_dropout})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(config.seed, STAGES.index(stage)))
        network = build_network(*sizes, config).to(torch.device(config.device))
    videos = _spread(data.video, np.unique(data.train.video))
    tracks = _spread(data.music, np.arange(len(data.music)))
    segments = np.arange(len(data.segment_video))
    pictures, sounds = _spread(data.segment_video, segments), _spread(data.segment_music, segments)
    device = device_of(network)
    network.video.standardise.fit(torch.from_numpy(np.vstack([videos, pictures])).to(device))
    network.music.standardise.fit(torch.from_numpy(np.vstack([tracks, sounds])).to(device))
    if isinstance(network, VariationalNetwork):
        network.population.copy_(torch.from_numpy(data.population_preference))
    return network


def _spread(array: npt.NDArray[np.float32], rows: Int64Array) -> npt.NDArray[np.float32]:
    """Return at most 16,384 of the rows, evenly spread: enough for mean and deviation."""
    step = max(1, -(-len(rows) // _STATISTICS_ROWS))
    return np.take(array, rows[::step], axis=0)


def population_of(data: TrainingData) -> Tensor:
    """Return float32[U, G]: the latest preference of each uploader of the training picks."""
    train = data.train
    order = np.lexsort((train.time, train.uploader))
    last = np.append(np.diff(train.uploader[order]) != 0, True)
    return torch.from_numpy(train.preference[order[last]])


def finish(network: DebcmNetwork, data: TrainingData, config: ModelConfig) -> None:
    """Set the genre terms that serving adds: the adjustment, and the habits that it keeps out."""
    device = device_of(network)
    share = np.bincount(data.genre_group, minlength=data.n_groups) / len(data.genre_group)
    group_share = torch.from_numpy(share.astype(np.float32)).to(device)
    population = population_of(data).to(device)
    if config.adjustment == "probability":
        network.fit_adjustment(population, group_share)
    with torch.no_grad():
        if config.adjustment != "none":
            network.naive += network.lean
        if config.popularity:
            log_popularity = np.log(popularity_of(data.train, len(data.music)))
            total = np.bincount(data.genre_group, log_popularity, minlength=data.n_groups)
            mean = total / np.maximum(np.bincount(data.genre_group, minlength=data.n_groups), 1)
            relative = torch.from_numpy((mean - log_popularity.mean()).astype(np.float32))
            network.naive += network.popularity * relative.to(device)
