"""How far from its teacher a student may go."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from models import (
    EpochLog,
    ModelConfig,
    Picks,
    TrainingData,
    interpolation,
    train_student,
    train_teacher,
)
from models.interpolation import (
    SHARES,
    Judged,
    between,
    interpolate,
    judge,
    nearest_as_good,
    surely_less,
    surprise,
)
from models.model import Model
from models.networks import DebcmNetwork
from models.objectives import PickChoice
from models.train import _is_preferred


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


@pytest.mark.parametrize(
    ("surprises", "chosen"),
    [
        # Gains over the first row: 1.0 for sure, then less.
        ([[2, 2, 2, 2], [1, 1, 1, 1], [1.5, 1.5, 1.5, 1.5]], 1),
        # Nobody beats the teacher.
        ([[1, 1, 1, 1], [2, 2, 2, 2], [1.1, 1.1, 1.1, 1.1]], 0),
        # The last gains 1.0 +- 0.58 (deviation 1, four picks): the second's 0.6 is as good.
        ([[2, 2, 2, 2], [1.4, 1.4, 1.4, 1.4], [0, 2, 0, 2]], 1),
        # Its 0.4 would not be; the last's gain is as likely chance, though.
        ([[2, 2, 2, 2], [1.6, 1.6, 1.6, 1.6], [0, 2, 0, 2]], 0),
        # 1.0 +- 0.33 is none, and 0.6 is not within an error of it.
        ([[2] * 10, [1.4] * 10, [0, 2] * 5], 2),
    ],
)
def test_the_nearest_within_a_standard_error_of_the_best(
    surprises: list[list[float]], chosen: int
) -> None:
    found = np.array(surprises)
    assert nearest_as_good(found, np.arange(found.shape[1])) == chosen


def test_surely_less_counts_uploaders_not_picks() -> None:
    """One who makes half of the picks is one witness: 1.0 +- 0.13 by picks, 0.5 by uploaders."""
    uploader = np.array([0] * 20 + list(range(1, 21)))
    gain = np.array([2.0] * 20 + [-0.5, 0.5] * 10)
    other = np.full(40, 3.0)
    assert surely_less(other - gain, other, np.arange(40))
    assert not surely_less(other - gain, other, uploader)
    assert surely_less(other - 0.1, other, uploader)
    assert not surely_less(other, other, uploader)


def test_few_uploaders_have_to_agree_more() -> None:
    """Three gains of 1.0 +- 0.29 are 3.5 standard errors: less than the 4.3 of two degrees."""
    other, gain = np.full(3, 2.0), np.array([0.5, 1.0, 1.5])
    assert not surely_less(other - gain, other, np.arange(3))
    assert surely_less(np.tile(other - gain, 4), np.tile(other, 4), np.arange(12))


def test_one_uploader_is_never_sure() -> None:
    one, other = np.zeros(50), np.ones(50)
    assert not surely_less(one, other, np.zeros(50, dtype=np.int64))
    assert nearest_as_good(np.stack([other, one]), np.zeros(50, dtype=np.int64)) == 0


def test_the_ends_of_the_line_are_teacher_and_student(
    training: TrainingData, teacher: Model, student: Model
) -> None:
    first, last = network_of(teacher), network_of(student)
    wanted = latents(first, training), latents(last, training)
    assert not np.allclose(*wanted, atol=0.1)
    for share, scores in zip((0.0, 1.0), wanted, strict=True):
        assert np.allclose(latents(between(first, last, share), training), scores, atol=1e-4)
    half = between(first, last, 0.5)
    mean = 0.5 * (first.video.linear.weight + last.video.linear.weight)
    assert torch.allclose(half.video.linear.weight, mean)
    assert torch.allclose(half.log_scale, 0.5 * (first.log_scale + last.log_scale))
    assert torch.equal(half.lean, last.lean)


def test_surprise_is_the_fitted_choice_model_on_later_picks(
    training: TrainingData, student: Model, config: ModelConfig
) -> None:
    network = between(network_of(student), network_of(student), 1.0)
    found = surprise(network, training, config)
    count = len(training.validation)
    assert found.shape == (count,)
    # With the fitted parameters in place, the training objective says the same of each pick.
    train, later = training.train, training.validation
    names = ("video", "music", "uploader", "time", "preference")
    both = [np.concatenate([getattr(train, name), getattr(later, name)]) for name in names]
    objective = PickChoice(network, None, replace(training, train=Picks(*both)), config)
    rows = np.arange(len(train), len(train) + count)
    with torch.no_grad():
        torch.manual_seed(config.seed)
        each = F.cross_entropy(*objective.choice(objective.embed(rows)), reduction="none")
        assert np.allclose(found, each.numpy(), atol=1e-4)
        # What was trained explains the later picks less well than what was fitted to them.
        trained = PickChoice(
            network_of(student), None, replace(training, train=Picks(*both)), config
        )
        torch.manual_seed(config.seed)
        before = F.cross_entropy(*trained.choice(trained.embed(rows)), reduction="none")
    assert found.mean() < before.numpy().mean()


def test_picks_at_random_leave_the_teacher_where_it_is(
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
    assert (followed.share, moderated.share) == (1.0, 0.0)
    wanted = latents(network_of(teacher), data)
    assert np.abs(latents(network_of(followed), data) - wanted).max() > 0.5
    assert np.allclose(latents(network_of(moderated), data), wanted, atol=1e-4)


def test_later_picks_that_confirm_the_student_keep_it(
    training: TrainingData, teacher: Model, student: Model, config: ModelConfig
) -> None:
    best = latents(network_of(student), training)[training.validation.video].argmax(axis=1)
    data = replace(training, validation=replace(training.validation, music=best))
    moved = replace(student, network=deepcopy(student.network))
    found = interpolate(moved, teacher, data)
    assert found.model is moved
    assert moved.share in SHARES
    assert moved.share >= 0.5
    wanted = between(network_of(teacher), network_of(student), moved.share)
    assert np.allclose(latents(network_of(moved), data), latents(wanted, data), atol=1e-4)
    assert np.array_equal(found.surprise, judge(moved, data).surprise)
    assert found.uploader.tolist() == data.validation.uploader.tolist()


def test_a_student_can_be_held_back_by_a_poor_teacher_and_is_then_taught_less(
    training: TrainingData, config: ModelConfig
) -> None:
    """Pictures and sounds of segments at random: what later picks say is that they mislead."""
    order = np.random.default_rng(0).permutation(len(training.segment_music))
    data = replace(training, segment_music=training.segment_music[order])
    longer = config.model_copy(update={"teacher_epochs": 20, "epochs": 20})
    poor = train_teacher(data, longer)
    stages: list[int] = []
    found = train_student(data, poor, longer, on_epoch=lambda log: stages.append(log.epoch))
    assert len(stages) > longer.epochs, "a second student was trained"
    assert found.teaching < 1.0
    assert found.config == longer
    assert len(found.history) == longer.epochs
    whole = train_student(data, poor, longer.model_copy(update={"interpolate": False}))
    less, more = (judge(each, data).surprise for each in (found, whole))
    assert less.mean() < more.mean() - 0.01


@pytest.mark.parametrize(
    ("mute", "gain_of_kept", "gain_of_alone", "preferred"),
    [
        # A teacher who has something to say yields to what is surely better alone.
        (False, 0.5, 0.6, False),
        (False, 0.5, 1.5, True),
        # One who has not yields to what is surely better than it and not surely worse.
        (True, 0.5, 0.4, True),
        (True, 1.5, 0.5, False),
        (True, 0.0, 0.1, False),
    ],
)
def test_who_learned_alone_is_preferred_to_who_heard_a_mute_teacher(
    teacher: Model, mute: bool, gain_of_kept: float, gain_of_alone: float, preferred: bool
) -> None:
    """Gains over the teacher, of 20 uploaders who disagree by 0.5."""
    who, own = np.arange(20), np.full(20, 3.0, dtype=np.float32)
    kept, alone = (
        Judged(
            teacher,
            own - gain - np.resize([0.5, -0.5] if up else [-0.5, 0.5], 20).astype(np.float32),
            who,
            held_back=True,
            mute=mute,
            teacher=own,
        )
        for gain, up in ((gain_of_kept, True), (gain_of_alone, False))
    )
    assert _is_preferred(alone, kept) == preferred


def test_without_the_match_all_towers_explain_alike(
    training: TrainingData, teacher: Model, student: Model, config: ModelConfig
) -> None:
    first, last = network_of(teacher), network_of(student)
    one, other = (between(first, last, share) for share in (0.0, 1.0))
    found = [surprise(each, training, config, match=False) for each in (one, other)]
    assert np.allclose(*found, atol=1e-3)
    assert found[0].mean() > surprise(between(first, last, 1.0), training, config).mean() + 0.05


def test_a_teacher_at_random_is_mute(training: TrainingData, config: ModelConfig) -> None:
    order = np.random.default_rng(0).permutation(len(training.segment_music))
    data = replace(training, segment_music=training.segment_music[order])
    deaf = train_teacher(data, config)
    whole = config.model_copy(update={"interpolate": False, "epochs": 20})
    found = interpolate(train_student(data, deaf, whole), deaf, data)
    assert (found.held_back, found.mute) == (True, True)


def test_a_training_killed_in_a_further_student_resumes_there(
    training: TrainingData, config: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpolation, "HELD_BACK", -1e9)
    monkeypatch.setattr(interpolation, "surely_less", lambda *_: True)
    brief = config.model_copy(update={"epochs": 2, "teacher_epochs": 2})
    teacher = train_teacher(training, brief)
    undisturbed: list[EpochLog] = []
    whole = train_student(training, teacher, brief, on_epoch=undisturbed.append)
    assert len(undisturbed) == 6, "one student, a lighter one, one alone"
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


def test_without_later_picks_the_student_stays(
    training: TrainingData, teacher: Model, student: Model, config: ModelConfig
) -> None:
    none = Picks(*(getattr(training.validation, n)[:0] for n in Picks.__dataclass_fields__))
    found = train_student(replace(training, validation=none), teacher, config)
    assert np.array_equal(
        latents(network_of(found), training), latents(network_of(student), training)
    )


def test_a_student_without_a_teacher_never_looks_at_one(
    training: TrainingData, teacher: Model, config: ModelConfig
) -> None:
    alone = config.model_copy(update={"teacher": False})
    with_one, without = (train_student(training, each, alone) for each in (teacher, None))
    assert np.array_equal(
        latents(network_of(with_one), training), latents(network_of(without), training)
    )


def test_the_share_is_kept_with_the_model(teacher: Model, tmp_path: Path) -> None:
    made = replace(teacher, share=0.75, teaching=0.25)
    made.save(tmp_path)
    assert Model.load(tmp_path).share == 0.75
    assert Model.load(tmp_path).teaching == 0.25


def test_the_papers_variants_do_not_interpolate() -> None:
    with pytest.raises(ValueError, match="interpolate is not read by variant paper"):
        ModelConfig.preset("paper", interpolate=True)
    assert not ModelConfig.preset("released").interpolate
