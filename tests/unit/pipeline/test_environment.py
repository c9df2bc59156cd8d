"""The table engines return freed memory to the operating system."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_SETTINGS = ("_RJEM_MALLOC_CONF", "ARROW_DEFAULT_MEMORY_POOL")
_KEPT = """
import pipeline.lake.tables
import polars as pl
import pyarrow as pa

def resident():
    pages = int(open("/proc/self/statm").read().split()[1])
    return pages * 4096 / 1e6

before = resident()
held = [{made} for _ in range(200)]
full = resident()
assert full - before > 100, full - before
del held
print((resident() - before) / (full - before))
"""


@pytest.mark.parametrize(
    "made",
    ["pl.repeat(1.0, 125_000, eager=True)", "pa.array(range(125_000), pa.float64())"],
    ids=["polars", "arrow"],
)
def test_freed_memory_is_returned(made: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in _SETTINGS}
    command = [sys.executable, "-c", _KEPT.format(made=made)]
    kept = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert float(kept.stdout) < 0.2
