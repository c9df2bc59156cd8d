"""Lakes to break, and the record of what was done to them: docs/reliability.md."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import fault_report
from fault_sites import deliver_media, fill_world, make_site

from simulation.encode import SAMPLE_RATE, write_sound, write_video

Record = Callable[..., None]


@pytest.fixture(scope="session")
def small_media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five files of a second or so, two of which cannot be used."""
    folder = tmp_path_factory.mktemp("media")
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    for name, pitch in (("low.ogg", 220.0), ("high.mp3", 880.0)):
        tone = (0.3 * np.sin(2 * np.pi * pitch * time)).astype(np.float32)
        write_sound(folder / name, np.stack([tone, tone]))
    for name, colour, seconds in (
        ("red.mp4", (200, 30, 30), 1),
        ("blue.webm", (30, 30, 200), 1),
        ("green.mp4", (30, 200, 30), 1),
        ("music_video.mp4", (200, 200, 30), 7),
    ):
        frames = [np.full((48, 64, 3), colour, np.uint8) for _ in range(5 * seconds)]
        for number, frame in enumerate(frames):
            frame[:, number % 64] = 255
        write_video(folder / name, frames, 5, np.zeros((2, SAMPLE_RATE * seconds), np.float32))
    (folder / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    return folder


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
    """Take down a row of docs/reliability.md; the numbers are those of the run."""
    return fault_report.record


def pytest_sessionfinish(session: pytest.Session) -> None:
    if fault_report.rows and session.config.option.markexpr == "faults":
        fault_report.write()
