"""Trains teacher and student of every variant.

`fit` does both. Under torchrun (an initialised torch.distributed process group) the same
calls split the rows of each step over the processes and average the gradients (DDP).
"""

from __future__ import annotations

import logging
from pathlib import Path

from torch import Tensor

from models import checkpoint as checkpoints
from models.config import ModelConfig
from models.data import TrainingData
from models.loop import OnEpoch, Plan, run
from models.model import Model
from models.registry import variant_of
from models.setup import network_for
from models.student_selection import select_student
from models.variant import Stage

# With fewer PGC segments, a teacher has nothing to contrast.
MIN_SEGMENTS = 2

log = logging.getLogger(__name__)


def fit(
    data: TrainingData,
    config: ModelConfig,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch | None = None,
) -> Model:
    """Train the teacher, if data and configuration allow one, and the student.

    Args:
        data: features, picks and PGC pairs.
        config: variant and switches.
        checkpoint: folder to save each epoch in and to resume from, or None.
        on_epoch: called after each epoch.

    Returns:
        The student; its training log starts with the teacher's epochs.
    """
    teacher = None
    reason = no_teacher_reason(data, config)
    if reason and config.uses_teacher:
        log.warning("no teacher: %s; the student learns only from uploaders' picks", reason)
    if not reason:
        folder = checkpoint / "teacher" if checkpoint else None
        teacher = train_teacher(data, config, folder, on_epoch)
    folder = checkpoint / "student" if checkpoint else None
    student = train_student(data, teacher, config, folder, on_epoch)
    if teacher is not None:
        student.training_log[:0] = teacher.training_log
    return student


def no_teacher_reason(data: TrainingData, config: ModelConfig) -> str:
    """Return why no teacher can be trained; empty if one can."""
    if not config.uses_teacher:
        return "the configuration asks for none"
    if len(data.segment_video) < MIN_SEGMENTS:
        return f"{len(data.segment_video)} PGC segments, {MIN_SEGMENTS} are needed"
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
        checkpoint: folder to save each epoch in and to resume from, or None.
        on_epoch: called after each epoch.

    Raises:
        ValueError: fewer than two segments.
        FloatingPointError: a loss is not finite.
    """
    if len(data.segment_video) < MIN_SEGMENTS:
        raise ValueError(
            f"a teacher needs at least {MIN_SEGMENTS} PGC segments, got "
            f"{len(data.segment_video)}.\nDeliver music videos, or set teacher = false."
        )
    variant = variant_of(config)
    network = network_for(data, config, Stage.TEACHER)
    objective = variant.prepare_teacher(network, data, config)
    plan = Plan(
        Stage.TEACHER,
        len(data.segment_video),
        config.teacher_batch_size,
        config.teacher_epochs,
        config.teacher_learning_rate,
        variant.learning_rate_factor,
    )
    belongs_to = _fingerprint(checkpoint, data, config, Stage.TEACHER, {})
    return run(plan, objective, data, config, checkpoint, belongs_to, on_epoch)


def train_student(
    data: TrainingData,
    teacher: Model | None,
    config: ModelConfig,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch | None = None,
) -> Model:
    """Train a student on uploaders' picks, guided by the teacher if there is one.

    With `config.interpolate`, later picks decide how far the student moves from its teacher, and
    whether further students are trained with a lower teacher weight or without a teacher
    (`models.student_selection`).

    Args:
        data: features and picks.
        teacher: of the same variant, not changed; ignored unless `config.uses_teacher`.
        config: variant and switches.
        checkpoint: folder to save each epoch in and to resume from, or None.
        on_epoch: called after each epoch, also of students that are not kept.

    Returns:
        The student that is kept, with its own training log.

    Raises:
        ValueError: the teacher is of another variant.
        FloatingPointError: a loss is not finite.
    """
    variant = variant_of(config)

    def train(guide: Model | None, config: ModelConfig, folder: str) -> Model:
        own = checkpoint / folder if checkpoint else None
        return _train_one_student(data, guide, config, own, on_epoch)

    guide = teacher if config.uses_teacher else None
    student = train(guide, config, "")
    selects = variant.interpolates and config.interpolate and config.picks_weight > 0
    if selects and guide is not None and len(data.validation):
        student = select_student(student, guide, data, train)
    variant.fit_serving_terms(student.network, data, config)
    return student


def _train_one_student(
    data: TrainingData,
    teacher: Model | None,
    config: ModelConfig,
    checkpoint: Path | None,
    on_epoch: OnEpoch | None,
) -> Model:
    variant = variant_of(config)
    network = network_for(data, config, Stage.STUDENT)
    if teacher is not None and type(teacher.network) is not type(network):
        raise ValueError(
            f"a {config.variant} student cannot learn from a {teacher.config.variant} teacher"
        )
    guide = teacher.network if teacher is not None else None
    objective = variant.prepare_student(network, guide, data, config)
    plan = Plan(
        Stage.STUDENT,
        len(data.train),
        config.batch_size,
        config.epochs,
        config.learning_rate,
        variant.learning_rate_factor,
    )
    guide_weights = guide.state_dict() if guide is not None else {}
    belongs_to = _fingerprint(checkpoint, data, config, Stage.STUDENT, guide_weights)
    model = run(plan, objective, data, config, checkpoint, belongs_to, on_epoch)
    model.teacher_weight = 1.0 if guide is not None else 0.0
    return model


def _fingerprint(
    checkpoint: Path | None,
    data: TrainingData,
    config: ModelConfig,
    stage: Stage,
    guide_weights: dict[str, Tensor],
) -> str:
    """Return the identity of a training; empty without a checkpoint, because hashing is slow."""
    if checkpoint is None:
        return ""
    return checkpoints.fingerprint(
        stage, config.model_dump_json(), data.digest(), checkpoints.tensors_digest(guide_weights)
    )
