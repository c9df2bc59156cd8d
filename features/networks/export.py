"""Making the packaged EfficientNet-Lite0 into an ONNX file, once for each machine."""

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


def writable_cache(name: str = "") -> Path:
    """Return the cache folder, or one below it, made where it is missing.

    Raises:
        EncoderError: it may not be written.
    """
    try:
        folder = cache_folder() / name
    except RuntimeError as error:
        raise EncoderError(f"{error} Name a cache folder in $DEBCM_CACHE") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Root may write where the file system may not.
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise EncoderError(
            f"the cache folder {folder} cannot be written ({error.strerror}); "
            "name one that can in $DEBCM_CACHE"
        ) from error


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def ensure_encoder(config: VisualConfig) -> Path:
    """Return the ONNX file of the configured network, checked, exporting it if need be.

    Safe when many processes call it at once: one exports, the others wait and read.

    Raises:
        EncoderError: the file is missing or has another sha256 than configured.
    """
    if config.encoder is not None:
        return check_network(config.encoder)
    target = cache_folder() / f"{LITE0_NAME}-{LITE0_WEIGHTS[:16]}-opset{OPSET}.onnx"
    if target.exists():
        return target
    with (writable_cache() / f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            log.info("exporting %s to %s", LITE0_NAME, target)
            _export(target)
    return target


def check_network(encoder: PictureEncoder | SoundEncoder) -> Path:
    """Return the path of a configured network whose bytes have the promised hash.

    Raises:
        EncoderError: the file is missing or has another sha256 than configured.
    """
    if not encoder.path.is_file():
        raise EncoderError(f"encoder {encoder.name!r}: {encoder.path} does not exist")
    found = sha256_of(encoder.path)
    if found != encoder.sha256:
        raise EncoderError(
            f"encoder {encoder.name!r}: {encoder.path} has sha256 {found}, "
            f"the configuration says {encoder.sha256}"
        )
    return encoder.path


def _export(target: Path) -> None:
    """Export in a process of its own, so that torch stays out of the caller's memory."""
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
            raise EncoderError(f"exporting {LITE0_NAME} failed:\n{done.stderr[-2000:]}")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
