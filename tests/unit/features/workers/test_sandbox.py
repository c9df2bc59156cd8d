from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import pytest

from features import Limits, MediaError, Reason
from features.workers import protocol, sandbox, worker


def test_what_a_file_may_cost_is_counted_for_each_file() -> None:
    """A long-lived worker: little for each file, in all more than one file may have."""
    script = textwrap.dedent(
        """
        import gc, time
        from features import Limits
        from features.workers import sandbox
        walls = sandbox.confine(Limits(memory=400 << 20, cpu_seconds=1))
        gc.disable()
        # As a decoder does that its own callback holds.
        cycle = [bytearray(250 << 20)]
        cycle.append(cycle)
        del cycle
        assert not walls.is_worn()
        kept = []
        for _ in range(8):
            assert not walls.is_worn()
            walls.begin_file()
            kept.append(bytearray(12 << 20))
            end = time.process_time() + 0.3
            while time.process_time() < end:
                pass
        try:
            bytearray(500 << 20)
        except MemoryError:
            kept.append(bytearray(150 << 20))
            print("worn" if walls.is_worn() else "fresh")
        walls.begin_file()
        while True:
            pass
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.stdout == "worn\n", done.stderr
    assert done.returncode == -signal.SIGXCPU


@pytest.mark.parametrize(("idle", "is_worn"), [(1 << 60, False), (0, True)])
def test_a_worker_is_replaced_for_what_files_left_behind_not_for_what_they_asked(
    idle: int, is_worn: bool
) -> None:
    """A few bytes can ask for more memory than there is; a worker takes seconds to start."""
    walls = sandbox.Sandbox(Limits(memory=1 << 20), idle)
    asked = MediaError(Reason.OUT_OF_MEMORY, "while opening the container")
    ((header, _),) = protocol.Unpacker().feed(worker._message(asked, walls))
    assert header["worn"] is is_worn


def test_a_worker_without_its_parent_does_not_start() -> None:
    script = "import os; from features.workers import sandbox; sandbox.die_with_parent(os.getpid())"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "WorkerError: the pool ended" in done.stderr
