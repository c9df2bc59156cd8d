"""Training: teacher and student of every variant.

`fit` does both. Under torchrun (an initialised torch.distributed process group) the same
calls split each step's rows over the processes and average gradients (DDP).
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import cast

from torch import Tensor

from models import checkpoint as checkpoints
from models.config import ModelConfig
from models.data import TrainingData
from models.distributed import agreed
from models.interpolation import Judged, interpolate, judge, surely_less
from models.loop import OnEpoch, Plan, run
from models.model import Model
from models.networks import DebcmNetwork, VariationalNetwork, device_of
from models.objectives import (
    Objective,
    PickChoice,
    SegmentContrast,
    VariationalMatch,
)
from models.pick_explanation import explain_first
from models.setup import finish, network_for, population_of

LEAST_SEGMENTS = 2
"""PGC segments below which a teacher has nothing to contrast."""

LIGHTER = 0.25
"""The teacher's weight, as a share of `distill_weight`, for a student that it held back."""

logger = logging.getLogger(__name__)


def fit(
    data: TrainingData,
    config: ModelConfig,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch | None = None,
) -> Model:
    """Train the teacher, where there is one, and the student.

    Args:
        data: features, picks and PGC pairs.
        config: variant and switches.
        checkpoint: folder to keep and resume the training in, or None.
        on_epoch: called after each epoch.

    Returns:
        The student; its history holds the teacher's epochs too.
    """
    teacher = None
    missing = no_teacher(data, config)
    if missing and config.taught:
        logger.warning("no teacher: %s; the student learns from uploaders' picks alone", missing)
    if not missing:
        folder = checkpoint / "teacher" if checkpoint else None
        teacher = train_teacher(data, config, folder, on_epoch)
    folder = checkpoint / "student" if checkpoint else None
    student = train_student(data, teacher, config, folder, on_epoch)
    if teacher is not None:
        student.history[:0] = teacher.history
    return student


def no_teacher(data: TrainingData, config: ModelConfig) -> str:
    """Return why no teacher is to be trained; empty where one is."""
    if not config.taught:
        return "the configuration asks for none"
    if len(data.segment_video) < LEAST_SEGMENTS:
        return f"{len(data.segment_video)} PGC segments, {LEAST_SEGMENTS} are needed"
    return ""


def train_teacher(
    data: TrainingData,
    config: ModelConfig,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch | None = None,
) -> Model:
    """Train a teacher on PGC segments.

    Args:
        data: at least two segments.
        config: variant and switches.
        checkpoint: folder to keep and resume the training in, or None.
        on_epoch: called after each epoch.

    Raises:
        ValueError: fewer than two segments: there is nothing to contrast.
    """
    if len(data.segment_video) < LEAST_SEGMENTS:
        raise ValueError(
            f"a teacher needs two PGC segments or more, got {len(data.segment_video)}: "
            "set teacher off or deliver music videos"
        )
    network = network_for(data, config, "teacher")
    objective: Objective
    if isinstance(network, DebcmNetwork):
        objective = SegmentContrast(network, data, config)
    else:
        objective = VariationalMatch(network, None, data, config, "teacher")
    plan = Plan(
        "teacher",
        len(data.segment_video),
        config.teacher_batch_size,
        config.teacher_epochs,
        config.teacher_learning_rate,
    )
    belongs_to = _belongs_to(checkpoint, data, config, "teacher", {})
    return run(plan, objective, network, data, config, checkpoint, belongs_to, on_epoch)


def train_student(
    data: TrainingData,
    teacher: Model | None,
    config: ModelConfig,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch | None = None,
) -> Model:
    """Train a student on uploaders' picks, guided by the teacher if there is one.

    With `config.interpolate`, later picks say how far it may go from its teacher, and whether that
    holds it back: then a second student hears the teacher less, and a last one not at all, and the
    one that later picks prefer is kept.

    Args:
        data: features and picks.
        teacher: of the same variant, not changed; not looked at unless `config.taught`.
        config: variant and switches.
        checkpoint: folder to keep and resume the training in, or None.
        on_epoch: called after each epoch, of students that are not kept too.

    Returns:
        The student kept, with its own history.

    Raises:
        ValueError: the teacher is of another variant.
    """
    guide = teacher if config.taught else None
    student = _learn(data, guide, config, checkpoint, on_epoch)
    moderate = config.variant == "debcm" and config.interpolate and config.picks_weight > 0
    if moderate and guide is not None and len(data.validation):
        student = _moderated(student, data, guide, config, checkpoint, on_epoch)
    if isinstance(student.network, DebcmNetwork):
        finish(student.network, data, config)
    return student


def _moderated(
    student: Model,
    data: TrainingData,
    teacher: Model,
    config: ModelConfig,
    checkpoint: Path | None,
    on_epoch: OnEpoch | None,
) -> Model:
    """Return the student that later picks prefer, as far from the teacher as they confirm."""
    kept = interpolate(student, teacher, data)
    if not kept.held_back:
        return kept.model

    def alone() -> Judged:
        logger.info("the teacher is no help: a student learns from uploaders' picks alone")
        folder = checkpoint / "alone" if checkpoint else None
        return judge(_learn(data, None, config, folder, on_epoch), data)

    if kept.mute:
        without = alone()
        if agreed(float(_is_preferred(without, kept))):
            return without.model
    logger.info("the teacher holds the student back: another one hears it less")
    folder = checkpoint / "lighter" if checkpoint else None
    less = config.model_copy(update={"distill_weight": LIGHTER * config.distill_weight})
    lighter = _learn(data, teacher, less, folder, on_epoch)
    lighter.config, lighter.teaching = config, LIGHTER
    second = interpolate(lighter, teacher, data)
    if agreed(float(second.surprise.mean() < kept.surprise.mean())):
        kept = replace(second, mute=kept.mute)
    if second.held_back and not kept.mute:
        without = alone()
        if agreed(float(_is_preferred(without, kept))):
            return without.model
    return kept.model


def _is_preferred(alone: Judged, kept: Judged) -> bool:
    """Return whether later picks prefer a student without a teacher to the one kept so far.

    Where the teacher has something to say, it has to be surely better. Where it has not, nothing
    speaks for who listened: it is enough to be surely better than the teacher, and not worse.
    """
    if not kept.mute:
        return surely_less(alone.surprise, kept.surprise, kept.uploader)
    return surely_less(alone.surprise, kept.teacher, kept.uploader) and not surely_less(
        kept.surprise, alone.surprise, kept.uploader
    )


def _learn(
    data: TrainingData,
    teacher: Model | None,
    config: ModelConfig,
    checkpoint: Path | None,
    on_epoch: OnEpoch | None,
) -> Model:
    """Train one student, all the way."""
    network = network_for(data, config, "student")
    if teacher is not None and type(teacher.network) is not type(network):
        raise ValueError(
            f"a {config.variant} student cannot learn from a {teacher.config.variant} teacher"
        )
    taught = teacher.network if teacher is not None else None
    objective: Objective
    if isinstance(network, DebcmNetwork):
        network.centre_on(population_of(data).to(device_of(network)))
        if isinstance(taught, DebcmNetwork):
            network.start_from(taught)
        objective = PickChoice(network, cast(DebcmNetwork | None, taught), data, config)
        if config.picks_weight > 0:
            explain_first(objective)
    else:
        frozen = cast(VariationalNetwork | None, taught)
        objective = VariationalMatch(network, frozen, data, config, "student")
    plan = Plan("student", len(data.train), config.batch_size, config.epochs, config.learning_rate)
    guide = taught.state_dict() if taught is not None else {}
    belongs_to = _belongs_to(checkpoint, data, config, "student", guide)
    model = run(plan, objective, network, data, config, checkpoint, belongs_to, on_epoch)
    model.teaching = 1.0 if taught is not None else 0.0
    return model


def _belongs_to(
    checkpoint: Path | None,
    data: TrainingData,
    config: ModelConfig,
    stage: str,
    guide: dict[str, Tensor],
) -> str:
    """Return what a checkpoint is compared by; the data are only hashed if one is kept."""
    if checkpoint is None:
        return ""
    described = config.model_dump_json()
    return checkpoints.fingerprint(
        stage, described, data.digest(), checkpoints.tensors_digest(guide)
    )
