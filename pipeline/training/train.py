"""Dataset -> teacher -> student: the two trainings of a run, each a folder of the store."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from models import Model, ModelConfig, train_student, train_teacher
from models.data import TrainingData
from models.train import no_teacher
from pipeline.context import Context
from pipeline.settings.load import Settings
from pipeline.storage.locks import locked
from pipeline.storage.presence import missing_lake_errors
from pipeline.storage.storage_errors import write_errors
from pipeline.storage.store import Store
from pipeline.training.dataset import load_dataset

log = logging.getLogger(__name__)

TRAINING_LOG = "history.json"


@dataclass(frozen=True)
class TrainingSummary:
    """What a training ended with; `unchanged` when the run had that model already.

    Attributes:
        run_id: the run.
        stage: "teacher" or "student".
        unchanged: nothing was trained.
        epochs: of the model kept, those before a resumed one included.
        validation: selection metric of the model kept; None without validation rows.
        seconds: wall time of these epochs.
        share: how far a student went from the teacher that it heard; None where there was none, or
            where nothing was trained.
        skipped: why there was nothing to train; empty where there was.
    """

    run_id: str
    stage: str
    unchanged: bool
    epochs: int
    validation: float | None
    seconds: float
    share: float | None
    skipped: str = ""


def teacher(context: Context, run_id: str) -> TrainingSummary:
    """Train the teacher on the segments of professional music videos.

    A run with none of these, or whose settings ask for no teacher, gets none: its student learns
    from uploaders' picks alone.

    Raises:
        ProvenanceError: the run has no dataset.
    """
    settings, store = context.settings, context.store
    config = model_config(settings)

    def train(data: TrainingData, checkpoint: Path) -> Model | str:
        return no_teacher(data, config) or train_teacher(data, config, checkpoint)

    return _once(store, run_id, "teacher", train)


def student(context: Context, run_id: str) -> TrainingSummary:
    """Train the student on uploaders' picks, with the teacher's knowledge where there is one.

    Raises:
        ProvenanceError: the run has no dataset, or lacks the teacher that it could have.
    """
    settings, store = context.settings, context.store
    config = model_config(settings)

    def train(data: TrainingData, checkpoint: Path) -> Model:
        teacher = None
        if not no_teacher(data, config):
            teacher = Model.load(store.fetch(f"runs/{run_id}/teacher"))
        return train_student(data, teacher, config, checkpoint)

    return _once(store, run_id, "student", train)


def _once(
    store: Store, run_id: str, stage: str, train: Callable[[TrainingData, Path], Model | str]
) -> TrainingSummary:
    """Train a stage that the run lacks; who comes second waits, and finds it made.

    `train` returns the model, or why there is none to train.
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
        return _keep(store, name, run_id, stage, model, checkpoint)


def model_config(settings: Settings) -> ModelConfig:
    """The model's settings, with the one seed of all randomness."""
    return settings.model.model_copy(update={"seed": settings.seed})


def _keep(
    store: Store, name: str, run_id: str, stage: str, model: Model, checkpoint: Path
) -> TrainingSummary:
    with store.writing(name) as folder:
        model.save(folder)
        history = [asdict(epoch) for epoch in model.history]
        (folder / TRAINING_LOG).write_text(json.dumps(history, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(checkpoint, ignore_errors=True)
    last = model.history[-1] if model.history else None
    summary = TrainingSummary(
        run_id,
        stage,
        unchanged=False,
        epochs=len(model.history),
        validation=last.validation if last else None,
        seconds=round(sum(epoch.seconds for epoch in model.history), 1),
        share=model.share if model.teaching else None,
    )
    log.info("%s", summary)
    return summary


def _unchanged(run_id: str, stage: str) -> TrainingSummary:
    log.info("run %s has its %s already", run_id, stage)
    return TrainingSummary(
        run_id, stage, unchanged=True, epochs=0, validation=None, seconds=0.0, share=None
    )


def _skipped(run_id: str, stage: str, why: str) -> TrainingSummary:
    log.warning("run %s has no %s: %s", run_id, stage, why)
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
