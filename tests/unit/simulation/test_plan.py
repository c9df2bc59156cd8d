"""The plan of the small world: sizes, days, controls."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from scipy.special import ndtri

from pipeline.settings.values import GENRE_GROUPS as SETTINGS_GROUPS
from simulation.music import MusicControls
from simulation.pictures import SCENES, PictureControls
from simulation.plan import CONTROLS, SEGMENT_SECONDS, SMALL_WORLD, Plan, make_plan, music_id
from simulation.styles import GENRE_GROUPS
from simulation.world import World, make_world


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(SMALL_WORLD)


@pytest.fixture(scope="module")
def plan(world: World) -> Plan:
    return make_plan(world)


def test_sizes_are_those_of_the_small_world(plan: Plan) -> None:
    assert [str(day) for day in plan.days] == ["2026-03-01", "2026-03-02", "2026-03-03"]
    assert len(plan.music) == 40
    assert sum(video.source == "ugc" for video in plan.videos) == 150
    assert sum(video.source == "pgc" for video in plan.videos) == 12
    assert len({video.uploader_id for video in plan.videos if video.source == "ugc"}) == 12
    ids = [video.video_id for video in plan.videos] + [track.music_id for track in plan.music]
    assert len(set(ids)) == len(ids)


def test_every_genre_group_can_be_learned(world: World, plan: Plan) -> None:
    sounds = {part.genre for video in plan.videos if video.source == "pgc" for part in video.parts}
    assert sounds == set(GENRE_GROUPS)
    assert {track.group for track in plan.music} == set(GENRE_GROUPS)
    assert set(world.video_group.tolist()) == set(range(len(SCENES)))


def test_every_day_has_videos_and_music(plan: Plan) -> None:
    for day in plan.days:
        assert any(track.day == day for track in plan.music)
        assert sum(video.day == day for video in plan.videos) > 20
        assert any(video.day == day and video.source == "pgc" for video in plan.videos)


def test_music_is_delivered_before_it_is_used(world: World, plan: Plan) -> None:
    delivered = {track.music_id: track.day for track in plan.music}
    assert all(delivered[video.music_id] <= video.day for video in plan.videos)
    late = np.flatnonzero(world.music_time > world.video_time[0])
    assert late.size > 0
    assert all(delivered[music_id(int(row))] == plan.days[-1] for row in late)


def test_planned_picks_are_those_of_the_world(world: World, plan: Plan) -> None:
    picked = [music_id(int(row)) for row in world.picks.music]
    assert [video.music_id for video in plan.videos[:150]] == picked


def test_genres_fall_into_their_groups_by_default(plan: Plan) -> None:
    spelled = {genre: group for group, genres in SETTINGS_GROUPS.items() for genre in genres}
    assert all(spelled[track.genre] == track.group for track in plan.music)


def test_formats_are_mixed(plan: Plan) -> None:
    assert {track.media_path.rsplit(".")[-1] for track in plan.music} == {
        "mp3", "ogg", "m4a", "flac", "wav",
    }  # fmt: skip
    assert {video.media_path.rsplit(".")[-1] for video in plan.videos} == {"mp4", "webm"}
    assert all(10.0 <= track.seconds <= 20.0 for track in plan.music)
    ugc = [video.parts for video in plan.videos if video.source == "ugc"]
    assert all(len(parts) == 1 and 4.0 <= parts[0].seconds <= 10.0 for parts in ugc)


def test_segments_of_a_music_video_differ(plan: Plan) -> None:
    for video in plan.videos:
        if video.source == "pgc":
            assert len(video.parts) == SMALL_WORLD.segments_per_pgc
            assert all(part.seconds == SEGMENT_SECONDS for part in video.parts)
            assert len({part.look for part in video.parts}) == len(video.parts)
            assert len({part.tune for part in video.parts}) == len(video.parts)


def test_controls_are_spread_and_carry_the_latent(world: World, plan: Plan) -> None:
    assert len(fields(MusicControls)) == len(fields(PictureControls)) == CONTROLS
    looks = np.array(
        [
            [getattr(video.parts[0].look, f.name) for f in fields(PictureControls)]
            for video in plan.videos[:150]
        ]
    )
    assert looks.min() > 0
    assert looks.max() < 1
    assert (looks.std(axis=0) > 0.15).all()
    design = np.hstack([ndtri(looks), np.ones((150, 1))])
    fit, *_ = np.linalg.lstsq(design, world.video_latent, rcond=None)
    np.testing.assert_allclose(design @ fit, world.video_latent, atol=1e-6)


def test_a_world_that_cannot_be_rendered_is_an_error() -> None:
    for change in ({"latent_dim": 9}, {"n_groups": 7}):
        with pytest.raises(ValueError, match="cannot be rendered"):
            make_plan(make_world(SMALL_WORLD.model_copy(update=change)))
