"""Trains the teacher and the student of a run, and writes each to a folder of the run."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import torch

from models import Model, ModelConfig, train_student, train_teacher
from models.data import TrainingData
from models.train import no_teacher_reason
from pipeline.context import Context
from pipeline.settings.load import Settings, SettingsError
from pipeline.storage.locks import locked
from pipeline.storage.presence import missing_lake_errors
from pipeline.storage.storage_errors import write_errors
from pipeline.storage.store import Store
from pipeline.training.dataset import load_dataset

log = logging.getLogger(__name__)

# Losses and validation of each epoch, read by the report.
TRAINING_LOG = "history.json"


class Stage(StrEnum):
    """A training of a run; the value is the name of its folder."""

    TEACHER = "teacher"
    STUDENT = "student"


@dataclass(frozen=True)
class TrainingSummary:
    """Result of one training.

    Attributes:
        run_id: the run.
        stage: teacher or student.
        unchanged: the run had the model already; nothing was trained.
        epochs: epochs of the model that was kept, including those before an interruption.
        validation: selection metric of the model; None without validation picks.
        seconds: wall time of the epochs.
        share: position of the student's weights between the teacher's (0) and those at the end of
            its training (1), see `models.interpolation`; None if there was no teacher or nothing
            was trained.
        skipped: why there was nothing to train; empty otherwise.
    """

    run_id: str
    stage: Stage
    unchanged: bool
    epochs: int
    validation: float | None
    seconds: float
    share: float | None
    skipped: str = ""


def teacher(context: Context, run_id: str) -> TrainingSummary:
    """Train the teacher on the segments of professional music videos.

    Without segments, or if the settings disable the teacher, nothing is trained: the student then
    learns only from uploaders' picks.

    Raises:
        ProvenanceError: the run has no dataset.
    """
    config = model_config(context.settings)

    def train(data: TrainingData, checkpoint: Path) -> Model | str:
        if reason := no_teacher_reason(data, config):
            return reason
        _check_device(config.device)
        return train_teacher(data, config, checkpoint)

    return _train_stage(context.store, run_id, Stage.TEACHER, train)


def student(context: Context, run_id: str) -> TrainingSummary:
    """Train the student on uploaders' picks, and distill the teacher if there is one.

    Raises:
        ProvenanceError: the run has no dataset, or its teacher is not trained yet.
    """
    store = context.store
    config = model_config(context.settings)

    def train(data: TrainingData, checkpoint: Path) -> Model:
        _check_device(config.device)
        teacher = None
        if not no_teacher_reason(data, config):
            teacher = Model.load(store.fetch(f"runs/{run_id}/{Stage.TEACHER}"))
        return train_student(data, teacher, config, checkpoint)

    return _train_stage(store, run_id, Stage.STUDENT, train)


def _train_stage(
    store: Store, run_id: str, stage: Stage, train: Callable[[TrainingData, Path], Model | str]
) -> TrainingSummary:
    """Train a stage, unless the run has it already.

    If two processes train the same run, the second one waits and uses the first one's model.

    Args:
        store: folders of the lake.
        run_id: the run.
        stage: the stage.
        train: takes data and checkpoint folder; returns the model, or why there is none to train.
    """
    name = f"runs/{run_id}/{stage}"
    if store.exists(name):
        return _unchanged(run_id, stage)
    with missing_lake_errors(store.root):
        data = load_dataset(store, run_id).training
    with missing_lake_errors(store.root), locked(store.scratch(f"runs/{run_id}")):
        if store.exists(name):
            return _unchanged(run_id, stage)
        checkpoint = store.scratch(f"{name}-checkpoint")
        with write_errors(checkpoint):
            model = train(data, checkpoint)
        if isinstance(model, str):
            return _skipped(run_id, stage, model)
        return _save(store, run_id, stage, model, checkpoint)


def model_config(settings: Settings) -> ModelConfig:
    """Return the settings of the model, with the seed of the settings."""
    return settings.model.model_copy(update={"seed": settings.seed})


def _check_device(device: str) -> None:
    """Use the device once.

    Raises:
        SettingsError: this machine does not have it, or its torch was built without it.
    """
    try:
        torch.zeros(1, device=device)
    # torch raises AssertionError if it was built without the device.
    except (RuntimeError, AssertionError) as error:
        what = str(error).partition("\n")[0].removesuffix(".")
        raise SettingsError(
            f"torch cannot use {device!r} on this machine: {what}; write cpu, or train on a "
            "machine that has the device",
            where="model.device",
        ) from error


def _save(
    store: Store, run_id: str, stage: Stage, model: Model, checkpoint: Path
) -> TrainingSummary:
    """Write model and training log to the store, and remove the checkpoint."""
    with store.writing(f"runs/{run_id}/{stage}") as folder:
        model.save(folder)
        epochs = [asdict(epoch) for epoch in model.training_log]
        (folder / TRAINING_LOG).write_text(json.dumps(epochs, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(checkpoint, ignore_errors=True)
    last = model.training_log[-1] if model.training_log else None
    summary = TrainingSummary(
        run_id,
        stage,
        unchanged=False,
        epochs=len(model.training_log),
        validation=last.validation if last else None,
        seconds=round(sum(epoch.seconds for epoch in model.training_log), 1),
        share=model.student_share if model.teacher_weight else None,
    )
    log.info("%s", summary)
    return summary


def _unchanged(run_id: str, stage: Stage) -> TrainingSummary:
    log.info("run %s already has a %s", run_id, stage)
    return TrainingSummary(
        run_id, stage, unchanged=True, epochs=0, validation=None, seconds=0.0, share=None
    )


def _skipped(run_id: str, stage: Stage, why: str) -> TrainingSummary:
    log.warning("run %s: no %s was trained: %s", run_id, stage, why)
    return TrainingSummary(
        run_id,
        stage,
        unchanged=False,
        epochs=0,
        validation=None,
        seconds=0.0,
        share=None,
        skipped=why,
    )
