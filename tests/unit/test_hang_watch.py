"""The limit of a test ends a test that hangs, and no test that waits for a core."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests.helpers.hang_watch import HangWatch, TestClock, cpu_seconds


class HangError(Exception):
    """The test was ended."""


def end_the_test() -> None:
    raise HangError


@pytest.mark.parametrize(
    ("passed", "used", "expected"),
    [
        pytest.param(600, 60, 60, id="one of ten processes on a loaded core"),
        pytest.param(600, 599, 599, id="a core of its own"),
        pytest.param(600, 1100, 600, id="two cores"),
        pytest.param(600, 2, 600, id="waits for something that does not come"),
        pytest.param(600, -3, 600, id="the time of an ended process is not counted any more"),
    ],
)
def test_time_spent_waiting_for_a_core_does_not_count(
    passed: float, used: float, expected: float
) -> None:
    clock = TestClock(now=1000, cpu=50)
    assert clock.advance(1000 + passed, 50 + used) == expected
    assert clock.advance(1000 + 2 * passed, 50 + 2 * used) == 2 * expected


def test_the_time_of_child_processes_counts() -> None:
    before = cpu_seconds(os.getpid())
    busy = "import time\nwhile time.process_time() < 0.5: pass\nprint('busy', flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", busy], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "busy\n"
        assert cpu_seconds(os.getpid()) - before >= 0.4
        child.communicate("\n")
    assert cpu_seconds(os.getpid()) - before >= 0.4


def wait() -> None:
    time.sleep(1000)


def wait_for_a_process() -> None:
    subprocess.run(["sleep", "1000"], check=True)


def run_for_ever() -> None:
    while True:
        pass


@pytest.mark.parametrize("hang", [wait, wait_for_a_process, run_for_ever])
def test_a_hang_is_ended(hang: Callable[[], None]) -> None:
    watch = HangWatch(0.3, end_the_test, stderr=2)
    try:
        with pytest.raises(HangError):
            hang()
    finally:
        watch.cancel()


def test_pytest_counts_with_this_clock(request: pytest.FixtureRequest) -> None:
    assert any(isinstance(value, HangWatch) for value in request.node.stash._storage.values())
