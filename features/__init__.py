"""From media files to arrays: no tables, no Airflow, no network.

Importing this package loads no codec and no network library; those come with the first
extractor.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import features.environment  # noqa: F401 (before every library)
from features.config import (
    AudioConfig,
    Limits,
    PictureEncoder,
    SoundEncoder,
    VisualConfig,
)
from features.errors import EncoderError, MediaError, Reason, WorkerError
from features.export import ensure_encoder
from features.naming import extractor_name
from features.pool import Job, MediaPool
from features.results import AudioFeatures, ClipFeatures, MediaInfo, VisualFeatures

if TYPE_CHECKING:
    from features.audio import AudioExtractor
    from features.visual import VisualExtractor

__all__ = [
    "AudioConfig",
    "AudioExtractor",
    "AudioFeatures",
    "ClipFeatures",
    "EncoderError",
    "Job",
    "Limits",
    "MediaError",
    "MediaInfo",
    "MediaPool",
    "PictureEncoder",
    "Reason",
    "SoundEncoder",
    "VisualConfig",
    "VisualExtractor",
    "VisualFeatures",
    "WorkerError",
    "ensure_encoder",
    "extractor_name",
]

_HEAVY = {"VisualExtractor": "features.visual", "AudioExtractor": "features.audio"}


def __getattr__(name: str) -> object:
    if name in _HEAVY:
        return getattr(import_module(_HEAVY[name]), name)
    raise AttributeError(f"module 'features' has no attribute {name!r}")
