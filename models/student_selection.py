"""Chooses the student: how far from its teacher, and with which weight of the teacher.

The first student learns with the full teacher weight. If its teacher held it back, a second student
learns with a lower teacher weight and, if that does not help, a third without a teacher. With an
uninformative teacher, the student without a teacher comes second. Later picks, on which none of
them was trained, decide which student is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from models.config import ModelConfig
from models.data import TrainingData
from models.distributed import same_on_all
from models.interpolation import (
    PickLikelihood,
    interpolate,
    measure_likelihood,
    significantly_lower,
)
from models.model import Model

# Teacher weight of the second student, as a share of `distill_weight`.
REDUCED_TEACHER_WEIGHT = 0.25

# Trains a student; arguments: teacher or None, configuration, name of its checkpoint folder.
# Checkpoints of running trainings have these folder names, so they stay: "lighter", "alone".
TrainStudent = Callable[[Model | None, ModelConfig, str], Model]

log = logging.getLogger(__name__)


def select_student(
    student: Model, teacher: Model, data: TrainingData, train: TrainStudent
) -> Model:
    """Return the student that later picks prefer, moved along the line from its teacher.

    Args:
        student: fully trained with the full teacher weight; changed in place.
        teacher: that the student started from.
        data: its validation picks are the later picks; at least one.
        train: trains further students where they are needed.
    """
    config = student.config
    kept = interpolate(student, teacher, data)
    if not kept.held_back:
        return kept.model

    def without_teacher() -> PickLikelihood:
        log.info("training a student without a teacher, because the teacher does not help")
        return measure_likelihood(train(None, config, "alone"), data)

    if kept.uninformative_teacher:
        without = without_teacher()
        if same_on_all(float(_prefer_without_teacher(without, kept))):
            return without.model
    log.info(
        "training a second student with %.0f %% of the teacher weight, because the teacher holds "
        "the first one back",
        100 * REDUCED_TEACHER_WEIGHT,
    )
    reduced = config.model_copy(
        update={"distill_weight": REDUCED_TEACHER_WEIGHT * config.distill_weight}
    )
    second = train(teacher, reduced, "lighter")
    second.config, second.teacher_weight = config, REDUCED_TEACHER_WEIGHT
    measured = interpolate(second, teacher, data)
    if same_on_all(float(measured.nll.mean() < kept.nll.mean())):
        kept = replace(measured, uninformative_teacher=kept.uninformative_teacher)
    if measured.held_back and not kept.uninformative_teacher:
        without = without_teacher()
        if same_on_all(float(_prefer_without_teacher(without, kept))):
            return without.model
    return kept.model


def _prefer_without_teacher(without: PickLikelihood, kept: PickLikelihood) -> bool:
    """Return whether later picks prefer a student without a teacher to the one kept so far.

    If the teacher is informative, the new student has to be significantly better than the kept
    one. Otherwise it is enough to be significantly better than the teacher and not significantly
    worse than the kept one.
    """
    if not kept.uninformative_teacher:
        return significantly_lower(without.nll, kept.nll, kept.uploader)
    return significantly_lower(
        without.nll, kept.teacher_nll, kept.uploader
    ) and not significantly_lower(kept.nll, without.nll, kept.uploader)
