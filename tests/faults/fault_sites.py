"""Makes the sites that the fault tests break: settings, a landing folder and a lake."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings, load_settings
from pipeline.storage.store import Store
from simulation.lake import Latents, SimulatedDay, write_simulated_day
from tests.faults.fault_harness import Steps
from tests.helpers.deliveries import track, video, write_day

DAYS = [dt.date(2026, 3, day) for day in (1, 2, 3)]

SETTINGS = """
[landing]
root = "landing"
reject_share = 1.0
[lake]
root = "lake"
keep_versions_days = 0
[extract]
workers = 1
shard_cpu_seconds = 2
commit_clips = 2
[split]
validation_share = 0.1
test_share = 0.3
[model]
dim = 16
hidden = 32
epochs = 6
teacher_epochs = 6
batch_size = 64
[gate]
min_test_rows = 10
bootstrap_rounds = 100
slice_rows = 1000
champion_loss = 1.0
calibration_worsening = 10
[release]
keep = 2
"""


@dataclass(frozen=True)
class Site:
    """A folder with settings, a landing folder and a lake.

    Attributes:
        folder: of the site.
        variables: environment variables of its steps; they may set another lake root.
    """

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.folder / "lake"

    @property
    def landing(self) -> Path:
        return self.folder / "landing"

    @property
    def steps(self) -> Steps:
        return Steps({"DEBCM_CONFIG": str(self.folder / "debcm.toml")} | self.variables)

    @property
    def settings(self) -> Settings:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.steps.environment.items():
                patch.setenv(name, value)
            return load_settings()

    @property
    def lake(self) -> Lake:
        return Lake(self.settings.lake)

    @property
    def store(self) -> Store:
        return Store(self.settings.lake)


def make_site(folder: Path, **variables: str) -> Site:
    """Create a folder with settings; the lake and the landing folder do not exist yet."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "debcm.toml").write_text(SETTINGS, encoding="utf-8")
    return Site(folder, variables)


def deliver_media(site: Site, media: Path) -> None:
    """Deliver two days: valid files, an invalid one, a repeated id, unknown music, a duplicate."""
    write_day(
        site.landing,
        DAYS[0],
        [
            video("v1", "red.mp4"),
            video("v2", "blue.webm"),
            video("v3", "noise.mp4"),
            video("p1", "music_video.mp4", source="pgc", uploader_id="", music_id=""),
        ],
        [track("m1", "low.ogg")],
        media,
    )
    write_day(
        site.landing,
        DAYS[1],
        [
            video("v1", "red.mp4"),
            video("v4", "green.mp4", music_id="m2", uploader_id="u2"),
            video("v5", "blue.webm", music_id="none"),
            video("v6", "red.mp4", uploader_id="u2"),
        ],
        [track("m2", "high.mp3", genre="pop")],
        media,
    )


def fill_world(site: Site) -> None:
    """Write three days of catalogue and features without media, enough to train on."""
    latents = Latents.make(46, 24, 16, 0)
    days = [
        SimulatedDay(DAYS[0], 240, 40, segments=60),
        SimulatedDay(DAYS[1], 60, 3, first=1000, first_music=40),
        SimulatedDay(DAYS[2], 60, 3, first=2000, first_music=43),
    ]
    for day in days:
        write_simulated_day(site.settings, site.lake, day, latents)
