from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models import (
    EpochLog,
    Model,
    ModelConfig,
    Picks,
    TrainingData,
    fit,
    metrics,
    train_student,
    train_teacher,
)
from models.checkpoint import tensors_digest
from models.config import VariantName
from simulation.dataset import WorldData
from simulation.world import World

VARIANTS: tuple[VariantName, ...] = ("debcm", "paper", "released")


def digest(model: Model) -> str:
    return tensors_digest(model.network.state_dict())


def true_recall(model: Model, world: World, data: WorldData) -> float:
    training = data.training
    videos = training.video[data.test_videos]
    recommended, _ = model.rank(videos, training.music, training.genre_group, 10)
    truth = metrics.top(world.affinity(data.test_videos), 10)
    return float(metrics.set_recall(recommended, truth).mean())


def test_the_default_learns_the_true_match(tiny_world: World, world_data: WorldData) -> None:
    config = ModelConfig(epochs=20, teacher_epochs=60, batch_size=128, teacher_batch_size=128)
    model = fit(world_data.training, config)
    chance = 10 / len(world_data.training.music)
    assert true_recall(model, tiny_world, world_data) > 3.5 * chance


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_same_seed_gives_the_same_weights(variant: VariantName, training: TrainingData) -> None:
    config = ModelConfig.preset(variant, epochs=2, teacher_epochs=2, batch_size=128, dim=8)
    before = torch.get_rng_state()
    first = digest(fit(training, config))
    assert torch.equal(torch.get_rng_state(), before), "training must keep torch's random state"
    torch.manual_seed(99)
    assert digest(fit(training, config)) == first
    assert digest(fit(training, config.model_copy(update={"seed": 1}))) != first


class KilledError(Exception):
    """Ends a training like the end of its process."""


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("stage", "after"), [("teacher", 1), ("student", 0), ("student", 1)])
def test_a_killed_training_resumes_to_the_same_weights(
    variant: VariantName, stage: str, after: int, training: TrainingData, tmp_path: Path
) -> None:
    config = ModelConfig.preset(variant, epochs=3, teacher_epochs=3, batch_size=128, dim=8)
    undisturbed = fit(training, config)

    def kill(log: EpochLog) -> None:
        if (log.stage, log.epoch) == (stage, after):
            raise KilledError

    with pytest.raises(KilledError):
        fit(training, config, tmp_path, kill)
    epochs: list[tuple[str, int]] = []
    resumed = fit(training, config, tmp_path, lambda log: epochs.append((log.stage, log.epoch)))
    assert digest(resumed) == digest(undisturbed)
    assert epochs[0] == (stage, after + 1)
    for mine, theirs in zip(resumed.training_log, undisturbed.training_log, strict=True):
        assert mine.losses == theirs.losses
        assert mine.validation == theirs.validation


def test_a_checkpoint_of_other_data_is_not_resumed(
    training: TrainingData, quick: ModelConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(training, quick, tmp_path)
    other = dataclasses.replace(training, music=training.music + np.float32(1))
    epochs: list[EpochLog] = []
    with caplog.at_level(logging.WARNING):
        fit(other, quick, tmp_path, epochs.append)
    assert len(epochs) == quick.epochs + quick.teacher_epochs
    assert "training starts again" in caplog.text


SWITCHES: list[dict[str, Any]] = [
    {"teacher": False, "distill": "none"},
    {"distill": "latent"},
    {"adjustment": "none"},
    {"adjustment": "batch"},
    {"adjustment": "probability"},
    {"popularity": False},
    {"masking": False},
    {"contrast": "catalogue"},
    {"contrast": "batch"},
    {"ips": True},
    {"history": 3},
    {"known": 2},
    {"sample": 20},
    {"bf16": True},
    {"picks_weight": 0.0},
    {"select": "best"},
]


@pytest.mark.parametrize("changes", SWITCHES, ids=lambda each: "-".join(map(str, each.values())))
def test_every_switch_changes_the_model_and_trains(
    changes: dict[str, Any], training: TrainingData, quick: ModelConfig
) -> None:
    teacher = train_teacher(training, quick)
    plain = train_student(training, teacher, quick)
    changed = train_student(training, teacher, quick.model_copy(update=changes))
    embedded = changed.embed_videos(training.video)
    assert np.isfinite(embedded).all()
    if changes != {"select": "best"} or changed.training_log[-1].validation != max(
        log.validation or 0 for log in changed.training_log
    ):
        assert digest(changed) != digest(plain)


def tiny(segments: int, validation: int) -> TrainingData:
    """Return as little data as a first night may have, with empty and constant columns."""
    rng = np.random.default_rng(0)
    groups, videos, tracks = 6, 22, 25

    def picks(rows: int) -> Picks:
        return Picks(
            rng.integers(videos, size=rows),
            rng.integers(tracks, size=rows),
            rng.integers(5, size=rows),
            np.sort(rng.random(rows)),
            np.full((rows, groups), 1 / groups, dtype=np.float32),
        )

    video = rng.normal(size=(videos, 30)).astype(np.float32)
    video[:, 3] = 1.0
    video[0, 4] = np.nan
    video[:, 5] = np.nan
    return TrainingData(
        video,
        rng.normal(size=(tracks, 20)).astype(np.float32),
        rng.integers(groups, size=tracks),
        groups,
        picks(22),
        picks(validation),
        rng.normal(size=(segments, 30)).astype(np.float32),
        rng.normal(size=(segments, 20)).astype(np.float32),
        np.full(groups, 1 / groups, dtype=np.float32),
    )


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("segments", "validation"), [(10, 3), (0, 0), (1, 2), (2, 1)])
def test_a_first_night_with_little_data_trains(
    variant: VariantName, segments: int, validation: int, caplog: pytest.LogCaptureFixture
) -> None:
    config = ModelConfig.preset(variant, epochs=2, teacher_epochs=2, select="best")
    data = tiny(segments, validation)
    with caplog.at_level(logging.WARNING):
        model = fit(data, config)
    assert (f"no teacher: {segments} PGC segments, 2 are needed" in caplog.text) == (segments < 2)
    assert np.isfinite(model.embed_videos(data.video)).all()
    assert np.isfinite(model.embed_music(data.music, data.genre_group)).all()
    assert (model.training_log[-1].validation is None) == (validation == 0)


def test_infinite_features_train(training: TrainingData, quick: ModelConfig) -> None:
    video = training.video.copy()
    video[0, 0], video[1, 1] = np.inf, -np.inf
    model = fit(dataclasses.replace(training, video=video), quick)
    assert np.isfinite(model.embed_videos(video)).all()


def test_features_may_be_read_only_and_memory_mapped(
    training: TrainingData, quick: ModelConfig, tmp_path: Path
) -> None:
    np.save(tmp_path / "video.npy", training.video)
    mapped = np.load(tmp_path / "video.npy", mmap_mode="r")
    data = dataclasses.replace(training, video=mapped)
    assert digest(fit(data, quick)) == digest(fit(training, quick))


def test_a_teacher_without_segments_is_refused(quick: ModelConfig) -> None:
    with pytest.raises(ValueError, match="needs at least 2 PGC segments, got 0"):
        train_teacher(tiny(0, 0), quick)


def test_a_teacher_of_another_variant_is_refused(
    training: TrainingData, quick: ModelConfig
) -> None:
    teacher = train_teacher(training, quick)
    config = ModelConfig.preset("paper", epochs=1)
    with pytest.raises(ValueError, match="paper student cannot learn from a debcm teacher"):
        train_student(training, teacher, config)
