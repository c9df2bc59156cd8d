"""Drawn frames: each control has its effect, and scenes can be told apart."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.stats import spearmanr

from simulation.pictures import SCENES, PictureControls, make_frames
from simulation.plan import SMALL_WORLD, PlannedVideo, make_plan
from simulation.world import make_world

MIDDLE = PictureControls(0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.1)


def _film(scene: int, seconds: float = 2.0, seed: int = 3, **controls: float) -> np.ndarray:
    look = replace(MIDDLE, **controls)
    return np.stack(
        list(make_frames(scene, look, seconds, 12, (160, 96), np.random.default_rng(seed)))
    )


def _shift(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Return how far the camera moved between two frames: pixels to the right and down."""
    greys = [
        cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) for frame in (first, second)
    ]
    (x, y), _ = cv2.phaseCorrelate(
        greys[0], greys[1], cv2.createHanningWindow((160, 96), cv2.CV_32F)
    )
    return -x, -y


def _cuts(frames: np.ndarray) -> int:
    change = np.abs(np.diff(frames.mean(axis=3), axis=0)).mean(axis=(1, 2))
    return int((change > 3.0 * np.median(change) + 3.0).sum())


@pytest.mark.parametrize("scene", range(len(SCENES)))
def test_frames_have_their_number_and_shape(scene: int) -> None:
    first, again = _film(scene), _film(scene)
    assert first.shape == (24, 96, 160, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[-1]), "nothing moves"
    assert not np.array_equal(first, _film(scene, seed=4))


@pytest.mark.parametrize("scene", range(len(SCENES)))
def test_light_and_saturation_change_the_colours(scene: int) -> None:
    dark, bright = _film(scene, 0.2, light=0.1), _film(scene, 0.2, light=0.9)
    assert bright.mean() > dark.mean() + 30
    grey, coloured = _film(scene, 0.2, saturation=0.05), _film(scene, 0.2, saturation=0.95)
    assert np.ptp(coloured, axis=3).mean() > np.ptp(grey, axis=3).mean() + 20


def test_camera_pans_at_its_speed_and_in_its_direction() -> None:
    clouds = next(i for i, scene in enumerate(SCENES) if scene.name == "clouds")
    expected = 4.0 * 40.0**0.5 / 12.0
    for direction, along in ((0.0, (1.0, 0.0)), (0.5, (0.0, -1.0)), (1.0, (-1.0, 0.0))):
        frames = _film(clouds, scale=0.1, direction=direction, cuts=0.0)
        moved = np.array(_shift(frames[0], frames[6])) / 6.0
        np.testing.assert_allclose(moved, np.array(along) * expected, atol=0.4)


def test_cuts_follow_their_rate() -> None:
    assert _cuts(_film(5, 10.0, cuts=1.0, speed=0.0)) == pytest.approx(16, abs=2)
    assert _cuts(_film(5, 10.0, cuts=0.0, speed=0.0)) <= 2


def test_window_passes_the_edge_of_the_canvas_without_a_seam() -> None:
    frames = _film(4, 4.0, speed=1.0, direction=0.0, cuts=0.0, scale=1.0)
    step = np.abs(np.diff(frames.astype(np.float64), axis=2)).mean(axis=(1, 3))
    assert step.max() < 30


def test_simple_statistics_of_frames_carry_the_latents() -> None:
    world = make_world(SMALL_WORLD)
    videos = make_plan(world).videos[: SMALL_WORLD.n_videos]
    statistics = np.array([_statistics(video) for video in videos])
    scaled = (statistics - statistics.mean(axis=0)) / statistics.std(axis=0)
    distance = np.linalg.norm(scaled[:, None] - scaled[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    nearest = world.video_group[distance.argmin(axis=1)]
    assert (nearest == world.video_group).mean() > 0.8
    for column, name, least in (
        (2, "saturation", 0.9),
        (3, "light", 0.5),
        (4, "contrast", 0.5),
        (6, "speed", 0.6),
        (7, "direction", 0.5),
    ):
        control = np.array([getattr(video.parts[0].look, name) for video in videos])
        within = [
            spearmanr(
                statistics[world.video_group == scene, column], control[world.video_group == scene]
            )[0]
            for scene in range(len(SCENES))
        ]
        assert np.mean(within) > least, f"{name}: rank correlation in each scene {within}"


def _statistics(video: PlannedVideo) -> list[float]:
    part, rng = video.parts[0], np.random.default_rng(video.seed)
    first, second = make_frames(part.scene, part.look, 0.2, 10, (160, 96), rng)
    hsv = cv2.cvtColor(first.astype(np.float32) / 255.0, cv2.COLOR_RGB2HSV)
    angle = np.deg2rad(hsv[..., 0])
    grey = cv2.cvtColor(first, cv2.COLOR_RGB2GRAY).astype(np.float64)
    right, down = _shift(first, second)
    return [
        float(np.cos(angle).mean()),
        float(np.sin(angle).mean()),
        float(hsv[..., 1].mean()),
        float(grey.mean()),
        float(grey.std()),
        float(np.log1p(cv2.Laplacian(grey, cv2.CV_64F).var())),
        float(np.hypot(right, down)),
        float(-right / (np.hypot(right, down) + 1e-9)),
    ]
