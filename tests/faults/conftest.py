"""Fixtures of the fault tests: media, lakes, and the recorder of docs/reliability.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import fault_report
from tests.faults.fault_sites import deliver_media, fill_world, make_site
from tests.helpers import deliveries

Record = Callable[..., None]


@pytest.fixture(scope="session")
def small_media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven small media files; one of them is invalid."""
    return deliveries.small_media(tmp_path_factory.mktemp("media"))


@pytest.fixture(scope="session")
def landing_once(tmp_path_factory: pytest.TempPathFactory, small_media: Path) -> Path:
    site = make_site(tmp_path_factory.mktemp("landing"))
    deliver_media(site, small_media)
    return site.landing


@pytest.fixture(scope="session")
def world_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = make_site(tmp_path_factory.mktemp("world"))
    fill_world(world)
    return world.root


@pytest.fixture(scope="session")
def record() -> Record:
    """Return the function that records a row of docs/reliability.md."""
    return fault_report.record


def pytest_sessionfinish(session: pytest.Session) -> None:
    if fault_report.rows and session.config.option.markexpr == "faults":
        fault_report.write()
