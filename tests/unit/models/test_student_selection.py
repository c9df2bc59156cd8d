"""The choice among students: moved towards the teacher, taught with less weight, or without it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models import (
    EpochLog,
    Model,
    ModelConfig,
    Picks,
    TrainingData,
    interpolation,
    student_selection,
    train_student,
    train_teacher,
)
from models.interpolation import PickLikelihood, measure_likelihood
from models.networks import DebcmNetwork
from models.student_selection import _prefer_without_teacher


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    return ModelConfig(epochs=6, teacher_epochs=6, batch_size=128, dim=16, hidden=32)


@pytest.fixture(scope="module")
def teacher(training: TrainingData, config: ModelConfig) -> Model:
    return train_teacher(training, config)


@pytest.fixture(scope="module")
def student(training: TrainingData, teacher: Model, config: ModelConfig) -> Model:
    return train_student(training, teacher, config.model_copy(update={"interpolate": False}))


def network_of(model: Model) -> DebcmNetwork:
    assert isinstance(model.network, DebcmNetwork)
    return model.network


def latents(network: DebcmNetwork, data: TrainingData) -> np.ndarray:
    with torch.no_grad():
        tracks = network.embed_music(torch.from_numpy(data.music), torch.zeros(90).long())
        return (network.embed_video(torch.from_numpy(data.video)) @ tracks.T).numpy()


def test_random_picks_do_not_move_the_student_from_its_teacher(
    training: TrainingData, teacher: Model, config: ModelConfig
) -> None:
    rng = np.random.default_rng(0)

    def at_random(picks: Picks) -> Picks:
        return replace(picks, music=rng.integers(len(training.music), size=len(picks)))

    data = replace(
        training, train=at_random(training.train), validation=at_random(training.validation)
    )
    followed = train_student(data, teacher, config.model_copy(update={"interpolate": False}))
    moderated = train_student(data, teacher, config)
    assert (followed.student_share, moderated.student_share) == (1.0, 0.0)
    wanted = latents(network_of(teacher), data)
    assert np.abs(latents(network_of(followed), data) - wanted).max() > 0.5
    assert np.allclose(latents(network_of(moderated), data), wanted, atol=1e-4)


def test_a_student_held_back_by_a_poor_teacher_is_trained_with_less_teacher_weight(
    training: TrainingData, config: ModelConfig
) -> None:
    """The pictures and sounds of segments are paired at random, so the teacher misleads."""
    order = np.random.default_rng(0).permutation(len(training.segment_music))
    data = replace(training, segment_music=training.segment_music[order])
    longer = config.model_copy(update={"teacher_epochs": 20, "epochs": 20})
    poor = train_teacher(data, longer)
    stages: list[int] = []
    found = train_student(data, poor, longer, on_epoch=lambda log: stages.append(log.epoch))
    assert len(stages) > longer.epochs, "a second student was trained"
    assert found.teacher_weight < 1.0
    assert found.config == longer
    assert len(found.training_log) == longer.epochs
    whole = train_student(data, poor, longer.model_copy(update={"interpolate": False}))
    less, more = (measure_likelihood(each, data).nll for each in (found, whole))
    assert less.mean() < more.mean() - 0.01


@pytest.mark.parametrize(
    ("uninformative", "gain_of_kept", "gain_of_alone", "preferred"),
    [
        # Informative teacher: the student without it has to be significantly better.
        (False, 0.5, 0.6, False),
        (False, 0.5, 1.5, True),
        # Uninformative: better than the teacher, and not worse than the student with it.
        (True, 0.5, 0.4, True),
        (True, 1.5, 0.5, False),
        (True, 0.0, 0.1, False),
    ],
)
def test_a_student_without_a_teacher_has_to_be_better_unless_the_teacher_is_uninformative(
    teacher: Model, uninformative: bool, gain_of_kept: float, gain_of_alone: float, preferred: bool
) -> None:
    """Gains over the teacher; those of 20 uploaders deviate by 0.5."""
    who, own = np.arange(20), np.full(20, 3.0, dtype=np.float32)
    kept, alone = (
        PickLikelihood(
            teacher,
            own - gain - np.resize([0.5, -0.5] if up else [-0.5, 0.5], 20).astype(np.float32),
            who,
            held_back=True,
            uninformative_teacher=uninformative,
            teacher_nll=own,
        )
        for gain, up in ((gain_of_kept, True), (gain_of_alone, False))
    )
    assert _prefer_without_teacher(alone, kept) == preferred


def test_a_training_killed_in_a_further_student_is_resumed_there(
    training: TrainingData, config: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpolation, "HELD_BACK_GAIN", -1e9)
    for module in (interpolation, student_selection):
        monkeypatch.setattr(module, "significantly_lower", lambda *_: True)
    brief = config.model_copy(update={"epochs": 2, "teacher_epochs": 2})
    teacher = train_teacher(training, brief)
    undisturbed: list[EpochLog] = []
    whole = train_student(training, teacher, brief, on_epoch=undisturbed.append)
    assert len(undisturbed) == 6, "one student, one with less teacher weight, one without a teacher"
    for killed_after in (3, 5):
        folder = tmp_path / str(killed_after)
        seen: list[EpochLog] = []

        def kill(log: EpochLog, seen: list[EpochLog] = seen, last: int = killed_after) -> None:
            seen.append(log)
            if len(seen) == last:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train_student(training, teacher, brief, folder, kill)
        rest: list[EpochLog] = []
        resumed = train_student(training, teacher, brief, folder, rest.append)
        found = [log.losses for log in (*seen, *rest)]
        assert found == [log.losses for log in undisturbed]
        assert np.array_equal(
            latents(network_of(resumed), training), latents(network_of(whole), training)
        )


def test_without_later_picks_the_first_student_is_kept(
    training: TrainingData, teacher: Model, student: Model, config: ModelConfig
) -> None:
    none = Picks(*(getattr(training.validation, n)[:0] for n in Picks.__dataclass_fields__))
    found = train_student(replace(training, validation=none), teacher, config)
    assert np.array_equal(
        latents(network_of(found), training), latents(network_of(student), training)
    )


def test_a_teacher_that_the_configuration_excludes_is_ignored(
    training: TrainingData, teacher: Model, config: ModelConfig
) -> None:
    alone = config.model_copy(update={"teacher": False})
    with_one, without = (train_student(training, each, alone) for each in (teacher, None))
    assert np.array_equal(
        latents(network_of(with_one), training), latents(network_of(without), training)
    )


def test_the_papers_variants_refuse_interpolation() -> None:
    with pytest.raises(ValueError, match="interpolate is not read by variant paper"):
        ModelConfig.preset("paper", interpolate=True)
    assert not ModelConfig.preset("released").interpolate
