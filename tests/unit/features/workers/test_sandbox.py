from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import pytest

from features import Limits, MediaError, Reason
from features.workers import protocol, sandbox, worker


def test_limits_apply_to_each_file() -> None:
    """Each of eight files stays below the limits; together they exceed them."""
    script = textwrap.dedent(
        """
        import gc, time
        from features import Limits
        from features.workers import sandbox
        confined = sandbox.confine(Limits(memory=400 << 20, cpu_seconds=1))
        gc.disable()
        # Like a decoder that its own callback refers to.
        cycle = [bytearray(250 << 20)]
        cycle.append(cycle)
        del cycle
        assert not confined.has_leaked()
        kept = []
        for _ in range(8):
            assert not confined.has_leaked()
            confined.allow_one_file()
            kept.append(bytearray(12 << 20))
            end = time.process_time() + 0.3
            while time.process_time() < end:
                pass
        try:
            bytearray(500 << 20)
        except MemoryError:
            kept.append(bytearray(150 << 20))
            print("leaked" if confined.has_leaked() else "fresh")
        confined.allow_one_file()
        while True:
            pass
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout == "leaked\n", done.stderr
    assert done.returncode == -signal.SIGXCPU


@pytest.mark.parametrize(("idle", "replace"), [(1 << 60, False), (0, True)])
def test_a_worker_is_replaced_for_memory_in_use_not_for_a_large_request(
    idle: int, replace: bool
) -> None:
    """Any file can request too much memory; a new worker takes seconds to start."""
    confined = sandbox.Sandbox(Limits(memory=1 << 20), idle)
    asked = MediaError(Reason.OUT_OF_MEMORY, "while opening the container")
    ((header, _),) = protocol.Unpacker().feed(worker._message(asked, confined))
    assert header["replace"] is replace


def test_a_worker_without_its_parent_does_not_start() -> None:
    script = "import os; from features.workers import sandbox; sandbox.die_with_parent(os.getpid())"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "WorkerError: the pool ended" in done.stderr
