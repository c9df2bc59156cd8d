"""The interface of variants, for each implementation."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch

from models import ModelConfig, TrainingData
from models.config import VariantName
from models.registry import variant_of
from models.setup import network_for
from models.variant import Stage, device_of

STAGES = {stage: position for position, stage in enumerate(["teacher", "student"])}


@pytest.mark.parametrize("stage", Stage)
def test_a_stage_keeps_the_position_that_enters_its_seeds(stage: Stage) -> None:
    assert stage.position == STAGES[stage]


@pytest.mark.parametrize("name", get_args(VariantName))
def test_videos_and_tracks_have_embeddings_of_one_width(
    name: VariantName, training: TrainingData
) -> None:
    network = network_for(training, ModelConfig.preset(name, dim=8), Stage.STUDENT).eval()
    group = torch.from_numpy(training.genre_group[:5])
    with torch.no_grad():
        video = network.embed_video(torch.from_numpy(training.video[:4]))
        music = network.embed_music(torch.from_numpy(training.music[:5]), group)
    assert video.shape == (4, music.shape[1])
    assert len(music) == 5
    assert device_of(network) == torch.device("cpu")


@pytest.mark.parametrize("name", get_args(VariantName))
@pytest.mark.parametrize("stage", Stage)
def test_every_loss_has_a_weight_and_every_trained_parameter_a_gradient(
    name: VariantName, stage: Stage, training: TrainingData
) -> None:
    config = ModelConfig.preset(name, dim=8)
    variant, network = variant_of(config), network_for(training, config, stage)
    if stage is Stage.TEACHER:
        objective = variant.prepare_teacher(network, training, config)
    else:
        teacher = network_for(training, config, Stage.TEACHER)
        objective = variant.prepare_student(network, teacher, training, config)
    assert objective.network is network
    losses = objective(np.arange(32))
    assert losses.keys() <= objective.weights.keys()
    torch.stack(list(losses.values())).sum().backward()
    without = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert not without


@pytest.mark.parametrize("name", get_args(VariantName))
def test_the_learning_rate_is_never_above_the_configured_one(name: VariantName) -> None:
    variant = variant_of(ModelConfig.preset(name))
    factors = [variant.learning_rate_factor(step, 40) for step in range(40)]
    assert max(factors) == 1.0
    assert min(factors) > 0.0
