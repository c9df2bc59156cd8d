"""What every test may rely on: no network, no settings of this machine, random state restored."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

SHARED_MEDIA = Path(__file__).resolve().parents[2] / "shared" / "media"


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
