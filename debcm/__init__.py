"""The public Python API: use a release, or train a model on arrays of your own.

    from debcm import Release

    release = Release.open("/srv/debcm/lake")
    for hit in release.recommend("clip.mp4", top=10):
        print(hit.title, hit.score)

The names in `__all__` are stable: a change that breaks one of them is announced in CHANGELOG.md.
Everything else (`pipeline`, `features`, `models`) is internal. docs/python.md describes each name.

Importing this package loads nothing else. A name loads its module on first use: `Release` needs
no torch, `fit` needs no Airflow.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from features.errors import MediaError, Reason
    from models import metrics, preference
    from models.config import ModelConfig
    from models.data import Picks, TrainingData
    from models.model import Model
    from models.train import fit
    from pipeline.errors import ProvenanceError, ReleaseError
    from pipeline.releases.serving import Recommendation, Release, current_release

    __version__: str

__all__ = [
    "MediaError",
    "Model",
    "ModelConfig",
    "Picks",
    "ProvenanceError",
    "Reason",
    "Recommendation",
    "Release",
    "ReleaseError",
    "TrainingData",
    "__version__",
    "current_release",
    "fit",
    "metrics",
    "preference",
]

# Name -> module that defines it.
_DEFINED_IN = {
    "MediaError": "features.errors",
    "Model": "models.model",
    "ModelConfig": "models.config",
    "Picks": "models.data",
    "ProvenanceError": "pipeline.errors",
    "Reason": "features.errors",
    "Recommendation": "pipeline.releases.serving",
    "Release": "pipeline.releases.serving",
    "ReleaseError": "pipeline.errors",
    "TrainingData": "models.data",
    "current_release": "pipeline.releases.serving",
    "fit": "models.train",
}
_MODULES = {"metrics": "models.metrics", "preference": "models.preference"}


def __getattr__(name: str) -> object:
    if name == "__version__":
        return version("debcm-pipeline")
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name in _DEFINED_IN:
        return getattr(import_module(_DEFINED_IN[name]), name)
    raise AttributeError(f"module 'debcm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
