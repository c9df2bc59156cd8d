"""Trains and evaluates models on arrays: pure PyTorch and NumPy, no tables, no Airflow.

docs/model.md explains every formula and has an example that runs.

Importing this package does not load torch, because settings and DAG files need only ModelConfig.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from models.config import ModelConfig

if TYPE_CHECKING:
    from models.data import Picks, TrainingData
    from models.model import EpochLog, Model
    from models.train import fit, train_student, train_teacher

__all__ = [
    "EpochLog",
    "Model",
    "ModelConfig",
    "Picks",
    "TrainingData",
    "fit",
    "train_student",
    "train_teacher",
]

_MODULES = {
    "EpochLog": "models.model",
    "Model": "models.model",
    "Picks": "models.data",
    "TrainingData": "models.data",
    "fit": "models.train",
    "train_student": "models.train",
    "train_teacher": "models.train",
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'models' has no attribute {name!r}")
