"""What libraries read from the environment as they are loaded; imported before any of them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

# ONNX Runtime's wheels tell Microsoft of every session, by default.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def cache_folder() -> Path:
    """Return where exported networks are kept: $DEBCM_CACHE, else ~/.cache/debcm.

    Raises:
        RuntimeError: neither is known.
    """
    return Path(os.environ.get("DEBCM_CACHE") or Path.home() / ".cache" / "debcm")


# librosa does not even import where numba finds no place for what it compiles: packages of root's
# in an image, and a service's user without a home.
with contextlib.suppress(RuntimeError):
    os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_folder() / "numba"))
