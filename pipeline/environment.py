"""Sets environment variables that libraries read when they are loaded.

Import this module before any library.
"""

from __future__ import annotations

import os

# By default, polars keeps freed memory for ten seconds, and Arrow forever. The memory of a task
# would grow with each commit.
os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:0")
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
# By default, the wheels of ONNX Runtime send telemetry about every session.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
