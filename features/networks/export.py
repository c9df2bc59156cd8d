"""Exports the packaged EfficientNet-Lite0 to an ONNX file, once per machine."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from features.config import PictureEncoder, SoundEncoder, VisualConfig
from features.environment import cache_folder
from features.errors import EncoderError
from features.networks.packaged import LITE0_NAME, LITE0_WEIGHTS, OPSET

log = logging.getLogger(__name__)

_SET_CACHE = "Set the environment variable DEBCM_CACHE to a writable folder."


def writable_cache_folder(name: str = "") -> Path:
    """Create the cache folder, or the folder of this name in it, and return its path.

    Raises:
        EncoderError: the folder is not writable.
    """
    try:
        folder = cache_folder() / name
    except RuntimeError as error:
        raise EncoderError(f"no cache folder: {error}\n{_SET_CACHE}") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Try a write: file modes do not apply to root, and the disk may be read-only.
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise EncoderError(
            f"the cache folder {folder} is not writable: {error.strerror}\n{_SET_CACHE}"
        ) from error


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def ensure_encoder(config: VisualConfig) -> Path:
    """Return the path of the configured network's ONNX file, or export the packaged network.

    Several processes may call it at once: one exports, the others wait.

    Raises:
        EncoderError: the configured file is missing or has another sha256, or the export failed.
    """
    if config.encoder is not None:
        return check_network(config.encoder)
    target = cache_folder() / f"{LITE0_NAME}-{LITE0_WEIGHTS[:16]}-opset{OPSET}.onnx"
    if target.exists():
        return target
    with (writable_cache_folder() / f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            log.info("Exporting %s to %s", LITE0_NAME, target)
            _export(target)
    return target


def check_network(encoder: PictureEncoder | SoundEncoder) -> Path:
    """Return the path of a configured network after checking its sha256.

    Raises:
        EncoderError: the file is missing or has another sha256 than configured.
    """
    if not encoder.path.is_file():
        raise EncoderError(
            f"encoder {encoder.name!r}: {encoder.path} does not exist.\n"
            "Check the path of the encoder in the settings."
        )
    found = sha256_of(encoder.path)
    if found != encoder.sha256:
        raise EncoderError(
            f"encoder {encoder.name!r}: {encoder.path} has sha256 {found}, "
            f"expected {encoder.sha256}.\n"
            "Check path and sha256 of the encoder in the settings."
        )
    return encoder.path


def _export(target: Path) -> None:
    """Export in a subprocess, which keeps torch out of this process."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "features.networks.lite0", str(temporary)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise EncoderError(f"the export of {LITE0_NAME} failed:\n{done.stderr[-2000:]}")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
