"""Networks before training: seeds, first weights, statistics of the features."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from models import ModelConfig, TrainingData
from models.setup import network_for, seed_of
from models.variant import Stage


def test_seeds_depend_on_every_part_and_their_order() -> None:
    assert seed_of(1, 2) == seed_of(1, 2)
    assert len({seed_of(1, 2), seed_of(2, 1), seed_of(1, 3), seed_of(1)}) == 4


def test_first_weights_depend_on_stage_and_seed_and_not_on_torchs_state(
    training: TrainingData, quick: ModelConfig
) -> None:
    def first_weight(config: ModelConfig, stage: Stage) -> float:
        return float(network_for(training, config, stage).video.linear.weight.detach()[0, 0])

    torch.manual_seed(5)
    before = torch.get_rng_state()
    student = first_weight(quick, Stage.STUDENT)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert first_weight(quick, Stage.STUDENT) == student
    assert first_weight(quick, Stage.TEACHER) != student
    assert first_weight(quick.model_copy(update={"seed": 1}), Stage.STUDENT) != student


def test_teacher_and_student_standardise_by_ugc_and_pgc_rows_together(
    training: TrainingData, quick: ModelConfig
) -> None:
    shifted = replace(training, segment_video=training.segment_video + np.float32(1))
    teacher, student = (network_for(shifted, quick, stage) for stage in Stage)
    assert torch.equal(teacher.video.standardise.mean, student.video.standardise.mean)
    used = shifted.video[np.unique(shifted.train.video)]
    rows = np.vstack([used, shifted.segment_video])
    np.testing.assert_allclose(student.video.standardise.mean, rows.mean(axis=0), atol=0.05)
    assert not np.allclose(student.video.standardise.mean, used.mean(axis=0), atol=0.05)


def test_only_the_teacher_has_the_teachers_dropout(
    training: TrainingData, quick: ModelConfig
) -> None:
    config = quick.model_copy(update={"dropout": 0.25, "teacher_dropout": 0.5})
    teacher, student = (network_for(training, config, stage) for stage in Stage)
    assert (teacher.video.dropout.dropped, student.video.dropout.dropped) == (128, 64)


def test_the_papers_network_serves_at_the_populations_preference(training: TrainingData) -> None:
    network = network_for(training, ModelConfig.preset("paper", dim=8), Stage.STUDENT)
    np.testing.assert_array_equal(network.population, training.population_preference)
