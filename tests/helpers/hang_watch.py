"""Ends a test that hangs, however long a test takes that makes progress.

The clock of a test stops while its processes wait for a core: on a loaded machine, a test takes
longer but is not ended. While the test uses the processor, its clock shows the CPU time of all its
processes; while it waits for something else, it shows the time that passes.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

TICK_SECONDS = 5.0
# A test that uses less of a core than this waits for something else than a core.
IDLE_SHARE = 0.05
# Native code that does not return to Python in this time is a hang: the process is ended.
NATIVE_SECONDS = 600.0
_CLOCK_TICK = os.sysconf("SC_CLK_TCK")


class TestClock:
    """Adds up the seconds that count towards the limit of a test."""

    __test__ = False

    def __init__(self, now: float, cpu: float) -> None:
        self.seconds = 0.0
        self._now = now
        self._cpu = cpu

    def advance(self, now: float, cpu: float) -> float:
        """Return the seconds of the test until now.

        Args:
            now: time in seconds.
            cpu: CPU seconds of all processes of the test so far.
        """
        passed, used = now - self._now, cpu - self._cpu
        self.seconds += passed if used < IDLE_SHARE * passed else min(used, passed)
        self._now, self._cpu = now, cpu
        return self.seconds


class Limit:
    """A limit for a wait inside a test, by the same clock.

    Args:
        seconds: of the clock.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._clock = TestClock(time.monotonic(), cpu_seconds(os.getpid()))

    def is_reached(self) -> bool:
        """Return whether the clock shows the limit."""
        return self._clock.advance(time.monotonic(), cpu_seconds(os.getpid())) >= self._seconds


class HangWatch:
    """Calls `on_hang` in the main thread when the test's clock reaches the limit.

    Args:
        limit: in seconds of the test's clock.
        on_hang: raises the error that ends the test.
        stderr: file descriptor for the stacks of a process that hangs in native code.
    """

    def __init__(self, limit: float, on_hang: Callable[[], None], stderr: int) -> None:
        self._limit = limit
        self._on_hang = on_hang
        self._stderr = stderr
        self._clock = TestClock(time.monotonic(), cpu_seconds(os.getpid()))
        signal.signal(signal.SIGALRM, self._tick)
        tick = min(TICK_SECONDS, limit)
        signal.setitimer(signal.ITIMER_REAL, tick, tick)
        self._expect_a_tick()

    def cancel(self) -> None:
        """Stop watching."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        faulthandler.cancel_dump_traceback_later()

    def _expect_a_tick(self) -> None:
        faulthandler.dump_traceback_later(NATIVE_SECONDS, exit=True, file=self._stderr)

    def _tick(self, _signal: int, _frame: FrameType | None) -> None:
        self._expect_a_tick()
        if self._clock.advance(time.monotonic(), cpu_seconds(os.getpid())) >= self._limit:
            # The cleanup of the test takes its time.
            self.cancel()
            self._on_hang()


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, its children and their descendants, in seconds."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        children = [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        # The process has ended; its parent counts its time when it has waited for it.
        return 0.0
    # utime, stime, cutime and cstime, see proc(5).
    own = sum(map(int, stat.rpartition(")")[2].split()[11:15])) / _CLOCK_TICK
    return own + sum(cpu_seconds(int(child)) for text in children for child in text.split())
