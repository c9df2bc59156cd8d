"""Environment variables that libraries read when they load; imported before any of them."""

import os

# The table engines keep freed memory for ten seconds or for ever, so a task's memory would grow
# with its commits.
os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:0")
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
# By default, the wheels of ONNX Runtime send telemetry for every session.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
