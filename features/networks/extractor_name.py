"""Names extractors; the version in a name covers everything that changes the features."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version

from features.config import AudioConfig, VisualConfig
from features.networks.packaged import LITE0_NAME, LITE0_WEIGHTS, OPSET, sound_encoder

# Increase when a change of code changes the features of an unchanged configuration.
VISUAL_CODE = 3
AUDIO_CODE = 5


def extractor_name(config: VisualConfig | AudioConfig) -> str:
    """Return the ``name@version`` of an extractor without loading its network.

    The version is a hash of the code version, the configuration except paths (including the
    network's sha256), and the major versions of the libraries that decode, scale, measure and run
    networks.

    Example:
        >>> extractor_name(VisualConfig()).split("@")[0]
        'efficientnet-lite0-16f'
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
    """Return the major version of each package; below 1.0, major and minor version."""
    found = {}
    for package in packages:
        major, minor, *_ = version(package).split(".")
        found[package] = major if int(major) else f"{major}.{minor}"
    return found
