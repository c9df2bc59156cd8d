"""Extracts features from media files as arrays, without tables, Airflow or network access.

Importing this package loads no codec and no library for networks. Both are loaded with the first
extractor or opened file.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import features.environment  # noqa: F401 (before all libraries)
from features.config import (
    AudioConfig,
    Limits,
    PictureEncoder,
    SoundEncoder,
    VisualConfig,
)
from features.errors import EncoderError, MediaError, Reason, WorkerError
from features.networks.export import ensure_encoder
from features.networks.extractor_name import extractor_name
from features.results import AudioFeatures, ClipFeatures, MediaInfo, VisualFeatures
from features.workers.job import Job, JobKind
from features.workers.pool import MediaPool

if TYPE_CHECKING:
    from features.container.media_file import MediaFile
    from features.sound.extractor import AudioExtractor
    from features.video.extractor import VisualExtractor

__all__ = [
    "AudioConfig",
    "AudioExtractor",
    "AudioFeatures",
    "ClipFeatures",
    "EncoderError",
    "Job",
    "JobKind",
    "Limits",
    "MediaError",
    "MediaFile",
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

_LOADED_ON_FIRST_USE = {
    "MediaFile": "features.container.media_file",
    "VisualExtractor": "features.video.extractor",
    "AudioExtractor": "features.sound.extractor",
}


def __getattr__(name: str) -> object:
    if name in _LOADED_ON_FIRST_USE:
        return getattr(import_module(_LOADED_ON_FIRST_USE[name]), name)
    raise AttributeError(f"module 'features' has no attribute {name!r}")
