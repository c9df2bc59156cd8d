"""A lake filled without media files."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pytest

from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings
from pipeline.settings.sections import LakeSettings
from simulation.lake import Latents, SimulatedDay, write_simulated_day

FIRST, SECOND = dt.date(2026, 3, 1), dt.date(2026, 3, 2)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(lake=LakeSettings(root=str(tmp_path / "lake")))


def test_days_fill_catalogue_and_features(settings: Settings) -> None:
    lake, latents = Lake(settings.lake), Latents.make(13, 6, 5, 0)
    write_simulated_day(settings, lake, SimulatedDay(FIRST, 40, 10, segments=4), latents)
    second = SimulatedDay(SECOND, 20, 3, first=1000, first_music=10)
    write_simulated_day(settings, lake, second, latents)
    assert lake.read("videos").height == 60
    assert sorted(lake.read("music")["music_id"]) == [f"m{n:08d}" for n in range(13)]
    assert lake.read("segments").height == 4
    assert lake.read("visual_features").height == 60 + 4
    assert lake.read("audio_features").height == 13 + 4
    days = lake.read("videos").join(lake.read("music"), on="music_id")
    assert (days["dt"] >= days["dt_right"]).all(), "a pick is of a track that was delivered"


def test_features_of_video_and_pick_share_a_latent(settings: Settings) -> None:
    lake, latents = Lake(settings.lake), Latents.make(10, 8, 8, 0)
    write_simulated_day(settings, lake, SimulatedDay(FIRST, 50, 10), latents)
    features = lake.read("visual_features").select("content_hash", "embedding")
    videos = lake.read("videos").join(features, on="content_hash").sort("video_id")
    track = videos["music_id"].str.slice(1).cast(int).to_numpy()
    error = np.array(videos["embedding"].to_list()) - latents.tracks[track] @ latents.visual
    assert error.std() == pytest.approx(0.3, rel=0.2)


def test_equal_seeds_give_equal_rows(settings: Settings, tmp_path: Path) -> None:
    other = settings.model_copy(update={"lake": LakeSettings(root=str(tmp_path / "other"))})
    frames = []
    for each in (settings, other):
        lake = Lake(each.lake)
        write_simulated_day(each, lake, SimulatedDay(FIRST, 5, 3), Latents.make(3, 4, 4, 1), seed=2)
        frames.append([lake.read(name) for name in ("videos", "music", "visual_features")])
    assert all(a.equals(b) for a, b in zip(*frames, strict=True))
