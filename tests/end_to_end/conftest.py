"""Fixtures of the end-to-end tests: three small landing days, and receivers on loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.real_airflow import DAYS, Platform, Receivers, listening


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
