"""What every test may rely on: no network, no settings of this machine, random state restored."""

from __future__ import annotations

import fcntl
import os
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key
from pytest_timeout import timeout_sigalrm

from tests.helpers.hang_watch import HangWatch

CHECKOUT = Path(__file__).resolve().parents[1]
SHARED_MEDIA = CHECKOUT.parent / "shared" / "media"


def use_numba_cache_of_this_process() -> None:
    """Point numba at the first cache folder that no other test process has locked, and lock it.

    Two processes that compile into one folder at the same time corrupt it, see
    features/sound/numba_cache.py, and tests call librosa without that module's lock. The folders
    are kept for later runs. The lock lasts as long as the process.
    """
    number = 0
    while True:
        folder = CHECKOUT / ".pytest_cache" / "numba" / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "test_process.lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            number += 1
        else:
            os.environ["NUMBA_CACHE_DIR"] = str(folder)
            return


# Before any test module imports librosa.
use_numba_cache_of_this_process()


_WATCH = pytest.StashKey[HangWatch]()


def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool:
    """Count the seconds of a test's limit by the test's own clock, not by that of the machine."""
    stderr = item.config.stash.get(fault_handler_stderr_fd_key, 2)
    on_hang = partial(timeout_sigalrm, item, settings)
    item.stash[_WATCH] = HangWatch(settings.timeout, on_hang, stderr)
    return True


def pytest_timeout_cancel_timer(item: pytest.Item) -> bool:
    """Stop the clock of the test."""
    item.stash[_WATCH].cancel()
    return True


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Settings come from the test alone: neither variables nor a debcm.toml of the caller."""
    for name in list(os.environ):
        if name.startswith("DEBCM_") and name != "DEBCM_CACHE":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def random_state_restored() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (libraries use it)
    yield
    random.setstate(python)
    np.random.set_state(numpy)  # noqa: NPY002


@pytest.fixture(scope="session")
def shared_landing() -> Path:
    """Real clips in the landing contract, where they lie beside the checkout."""
    landing = SHARED_MEDIA / "landing"
    if not landing.is_dir():
        pytest.skip("no ../shared/media/landing beside the checkout")
    return landing
