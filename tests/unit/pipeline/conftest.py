"""A tiny landing folder of real files, and a lake to read it into."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import deliveries
import pytest
from deliveries import Row

from pipeline.lake import Lake
from pipeline.settings import ExtractSettings, LakeSettings, LandingSettings, Settings
from pipeline.store import Store

DAY = dt.date(2026, 3, 1)


@dataclass
class Platform:
    """Somebody who delivers landing days."""

    root: Path
    media: Path

    video = staticmethod(deliveries.video)
    track = staticmethod(deliveries.track)
    write = staticmethod(deliveries.write_manifest)

    def deliver(self, day: dt.date, videos: list[Row], music: list[Row]) -> Path:
        """Write a complete day; delivering it again replaces its manifests."""
        return deliveries.write_day(self.root, day, videos, music, self.media)


@pytest.fixture(scope="session")
def tiny_media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures and sounds of a second or so, and a music video of seven seconds."""
    return deliveries.small_media(tmp_path_factory.mktemp("media"))


@pytest.fixture
def platform(tmp_path: Path, tiny_media: Path) -> Platform:
    return Platform(tmp_path / "landing", tiny_media)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        lake=LakeSettings(root=str(tmp_path / "lake")),
        landing=LandingSettings(root=tmp_path / "landing", reject_share=1.0),
        extract=ExtractSettings(workers=1),
    )


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake(settings.lake)


@pytest.fixture
def store(settings: Settings) -> Store:
    return Store(settings.lake)
