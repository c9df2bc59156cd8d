"""Names of extractors: every choice that changes the numbers is in the version."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version

from features.config import AudioConfig, VisualConfig
from features.networks.packaged import LITE0_NAME, LITE0_WEIGHTS, OPSET, sound_encoder

# Raised whenever code changes the numbers that an unchanged configuration gives.
VISUAL_CODE = 3
AUDIO_CODE = 5


def extractor_name(config: VisualConfig | AudioConfig) -> str:
    """Return ``name@version`` of an extractor, without loading a network.

    The version is a hash over the code's version, the weights' sha256, sampling, size and
    blocks (the whole configuration but for paths) and the major versions of the libraries
    that decode, scale, measure and run networks.
    """
    if isinstance(config, VisualConfig):
        network = config.encoder.name if config.encoder else LITE0_NAME
        name = f"{network}-{config.frames}f"
        extra: dict[str, object] = {"code": VISUAL_CODE, "libraries": _majors("av", "onnxruntime")}
        extra["opencv"] = _majors("opencv-python-headless")
        if config.encoder is None:
            extra["weights"] = [LITE0_WEIGHTS, OPSET]
    else:
        encoder = sound_encoder(config)
        name = f"{encoder.name}-sound" if encoder else "sound"
        extra = {"code": AUDIO_CODE, "libraries": _majors("av", "librosa", "soxr", "onnxruntime")}
        extra["network"] = encoder.model_dump(mode="json", exclude={"path"}) if encoder else None
    parts = {"config": config.model_dump(mode="json", exclude={"encoder": {"path"}}), **extra}
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return f"{name}@{digest[:12]}"


def _majors(*packages: str) -> dict[str, str]:
    """Return the version of each package up to what may change numbers.

    A package below 1.0 may change them in a minor version.
    """
    found = {}
    for package in packages:
        major, minor, *_ = version(package).split(".")
        found[package] = major if int(major) else f"{major}.{minor}"
    return found
