"""A platform of three small days, and receivers on loopback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from real_airflow import DAYS, Platform, Receivers, listening


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    made = Platform(tmp_path_factory.mktemp("platform") / "landing")
    for day in DAYS:
        made.deliver(day)
    return made


@pytest.fixture(scope="session")
def receivers() -> Iterator[Receivers]:
    with listening() as made:
        yield made
