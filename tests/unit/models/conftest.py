from __future__ import annotations

import pytest

from models import ModelConfig, TrainingData
from simulation.dataset import WorldData, make_data
from simulation.world import World, WorldConfig, make_world


@pytest.fixture(scope="session")
def tiny_world() -> World:
    return make_world(
        WorldConfig(
            n_videos=720,
            n_music=90,
            n_uploaders=30,
            n_pgc=60,
            knowledge=0.2,
            video_dim=32,
            music_dim=24,
            seed=3,
        )
    )


@pytest.fixture(scope="session")
def world_data(tiny_world: World) -> WorldData:
    return make_data(tiny_world)


@pytest.fixture(scope="session")
def training(world_data: WorldData) -> TrainingData:
    return world_data.training


@pytest.fixture
def quick() -> ModelConfig:
    return ModelConfig(epochs=3, teacher_epochs=3, batch_size=128, dim=16, hidden=32)
