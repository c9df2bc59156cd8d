"""The steps of the nightly run: they read tables and write tables."""

import os

# The engines of the tables have an allocator each, and keep what is freed for ten seconds or for
# ever: a task's memory would grow with its commits. Each reads its setting once, as it is loaded,
# so this comes before any import of them.
os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:0")
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
# ONNX Runtime's wheels tell Microsoft of every session, by default.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
