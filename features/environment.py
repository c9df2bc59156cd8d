"""Sets environment variables that libraries read when they are loaded; imported before them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

# ONNX Runtime's wheels send usage data to Microsoft by default.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def cache_folder() -> Path:
    """Return the folder of exported networks and compiled functions.

    It is $DEBCM_CACHE, else ~/.cache/debcm.

    Raises:
        RuntimeError: DEBCM_CACHE is not set, and there is no home folder.
    """
    return Path(os.environ.get("DEBCM_CACHE") or Path.home() / ".cache" / "debcm")


# By default numba writes beside librosa's files or into the home folder. If it can do neither, as
# for a service's user in a container image, librosa cannot be imported.
with contextlib.suppress(RuntimeError):
    os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_folder() / "numba"))
