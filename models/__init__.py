"""Arrays to models and metrics: pure PyTorch and NumPy, no tables, no Airflow.

docs/model.md explains every formula and has an example that runs.
"""

from models.config import ModelConfig
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
