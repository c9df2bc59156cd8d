from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from features.arrays import UInt8Array
from features.video import blocks
from features.video.blocks import DIMS, MOTION_SIZE, WINDOW_RATE, ClipFrames, measure, optical_flow

SIZE = MOTION_SIZE
STEP = 1 / WINDOW_RATE


def texture(x: float = 0.0, y: float = 0.0, zoom: float = 1.0, seed: int = 0) -> UInt8Array:
    """Return smooth noise, moved by (x, y) frame sides to the right and down, and zoomed."""
    noise = np.random.default_rng(seed).uniform(0, 255, (24, 24, 3)).astype(np.float32)
    wide = cv2.resize(noise, (3 * SIZE, 3 * SIZE), interpolation=cv2.INTER_CUBIC)
    middle = 1.5 * SIZE
    matrix = np.array(
        [
            [zoom, 0, SIZE / 2 + x * SIZE - zoom * middle],
            [0, zoom, SIZE / 2 + y * SIZE - zoom * middle],
        ]
    )
    moved = cv2.warpAffine(wide, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR)
    return np.clip(moved, 0, 255).astype(np.uint8)


def flat(*rgb: int, count: int = 1) -> UInt8Array:
    return np.broadcast_to(np.array(rgb, np.uint8), (count, SIZE, SIZE, 3)).copy()


def flows(moves: Sequence[tuple[float, float]]) -> list[np.ndarray]:
    return [optical_flow(texture(), texture(x * STEP, y * STEP), STEP) for x, y in moves]


@pytest.mark.parametrize(("x", "y"), [(0.3, 0.0), (0.0, -0.2), (-0.15, 0.1)])
def test_optical_flow_is_in_frame_sides_per_second(x: float, y: float) -> None:
    (field,) = flows([(x, y)])
    inner = field[3:-3, 3:-3]
    np.testing.assert_allclose(np.median(inner, axis=(0, 1)), [x, y], atol=0.02)
    half = optical_flow(texture(), texture(x * STEP, y * STEP), 2 * STEP)
    np.testing.assert_allclose(half, field / 2, rtol=1e-5)


def test_motion_measures_speed_direction_and_zoom() -> None:
    slow, fast = (blocks.motion(flows([(v, 0.0)] * 4)) for v in (0.05, 0.4))
    assert slow[0] < fast[0] == pytest.approx(np.log1p(4.0), rel=0.15)
    assert fast[3] == pytest.approx(np.arcsinh(4.0), rel=0.1)
    assert abs(fast[4]) < 0.3
    assert fast[5] > 0.9
    back_and_forth = blocks.motion(flows([(0.3, 0.0), (-0.3, 0.0)] * 2))
    assert back_and_forth[5] < 0.2
    assert abs(back_and_forth[3]) < 0.3
    nearer = blocks.motion([optical_flow(texture(), texture(zoom=1.05), STEP)] * 3)
    further = blocks.motion([optical_flow(texture(), texture(zoom=0.95), STEP)] * 3)
    assert nearer[7] > 0.3
    assert further[7] < -0.3
    np.testing.assert_array_equal(blocks.motion([]), np.zeros(8))


@pytest.mark.parametrize("hertz", [1.0, 2.0])
def test_rhythm_finds_the_frequency_of_motion(hertz: float) -> None:
    times = np.arange(32) * STEP
    speeds = 0.2 + 0.15 * np.sin(2 * np.pi * hertz * times)
    found = blocks.rhythm(flows([(float(v), 0.0) for v in speeds]))
    assert found[0] > 0.2
    assert found[1] > 0.5
    assert found[2] == pytest.approx(hertz, rel=0.01)
    bands = {1.0: 4, 2.0: 5}
    assert found[3:].argmax() + 3 in (bands[hertz], bands[hertz] - 1)
    assert found[3:].sum() > 0.8
    even = blocks.rhythm(flows([(0.2, 0.0)] * 32))
    assert even[0] < 0.05
    np.testing.assert_array_equal(blocks.rhythm(flows([(0.2, 0.0)] * 7)), np.zeros(6))


def test_cuts_are_counted_but_motion_is_not() -> None:
    red, blue, grey = flat(200, 30, 30), flat(30, 30, 200), flat(90, 90, 90)
    shots = np.concatenate([red] * 5 + [blue] * 5 + [grey] * 7)
    times = np.arange(17) * STEP
    centres = np.concatenate([red, red, blue, blue])
    rate, across, mean, deviation = blocks.cuts(centres, shots, times)
    assert rate == pytest.approx(2 / 2.0)
    assert across == pytest.approx(1 / 3)
    assert (mean, deviation) == (pytest.approx(1 / 3), pytest.approx(np.std([0, 1, 0])))
    moving = np.stack([texture(x=0.04 * i) for i in range(17)])
    assert blocks.cuts(moving[::4], moving, times)[0] == 0
    # Each step of a wipe changes colours as much as some cuts do, but all steps do.
    wipe = np.concatenate([red] * 17)
    for number in range(17):
        wipe[number, :, : 6 * number] = blue[0, 0, 0]
    assert blocks.cuts(wipe[::4], wipe, times)[0] <= 1 / 2.0
    # A cut between two scenes with motion.
    shots = np.concatenate([moving[:8], [texture(x=0.04 * i, seed=5) for i in range(9)]])
    assert blocks.cuts(shots[::4], shots, times)[0] == pytest.approx(1 / 2.0)
    np.testing.assert_array_equal(blocks.cuts(red, red, np.zeros(1)), np.zeros(4))


@pytest.mark.parametrize(
    ("rgb", "hue"),
    [
        ((255, 0, 0), 0),
        ((255, 255, 0), 1),
        ((0, 255, 0), 2),
        ((0, 255, 255), 3),
        ((0, 0, 255), 4),
        ((255, 0, 255), 5),
    ],
)
def test_colour_measures_the_hue(rgb: tuple[int, int, int], hue: int) -> None:
    found = blocks.colour(flat(*rgb, count=2))
    expected = np.zeros(6)
    expected[hue] = 1
    np.testing.assert_allclose(found[7:], expected)
    # Expected from the mean term of Hasler and Suesstrunk, divided by 100.
    red, green, blue = (value / 100 for value in rgb)
    colourfulness = 0.3 * np.hypot(red - green, (red + green) / 2 - blue)
    assert found[6] == pytest.approx(colourfulness)
    lab = cv2.cvtColor(np.array([[rgb]], np.float32) / 255, cv2.COLOR_RGB2LAB)[0, 0]
    np.testing.assert_allclose(found[[0, 2]], lab[1:] / 100, atol=1e-4)
    grey = blocks.colour(flat(128, 128, 128))
    np.testing.assert_allclose(grey, 0, atol=1e-3)


def test_light_equals_values_worked_out_by_hand() -> None:
    half = flat(0, 0, 0)
    half[:, :, SIZE // 2 :] = 255
    found = blocks.light(np.concatenate([half, flat(255, 255, 255)]))
    np.testing.assert_allclose(found, [0.75, 0.25, 0.25, 0.25, 0.75, 0.5], atol=1e-6)
    # BT.709: green weighs more than blue.
    green, blue = (blocks.light(flat(*rgb))[0] for rgb in ((0, 255, 0), (0, 0, 255)))
    assert (green, blue) == (pytest.approx(0.7152), pytest.approx(0.0722))


def test_blur_lowers_sharpness() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    soft = cv2.GaussianBlur(noise, (0, 0), 3)
    sharp, blurred = (blocks.sharpness(p[None]) for p in (noise, soft))
    assert sharp[0] > 1.5 * blurred[0]
    assert sharp[2] > blurred[2]
    assert blocks.sharpness(np.stack([noise, soft]))[1] > 0.1


def test_blocks_are_concatenated_in_the_given_order() -> None:
    window = np.stack([texture(x=0.01 * i) for i in range(17)])
    frames = ClipFrames(
        window[::4], [(window[0], window[1], STEP)] * 4, window, np.arange(17) * STEP
    )
    names = list(DIMS)
    parts = {name: measure(frames, [name]) for name in names}
    assert {name: len(part) for name, part in parts.items()} == DIMS
    np.testing.assert_array_equal(
        measure(frames, names[::-1]), np.concatenate([parts[name] for name in names[::-1]])
    )
    assert measure(frames, []).shape == (0,)


@pytest.mark.parametrize("frame", [flat(0, 0, 0)[0], flat(255, 255, 255)[0], texture()])
def test_one_frame_gives_finite_values(frame: UInt8Array) -> None:
    frames = ClipFrames(frame[None], [(frame, frame, 0.0)], frame[None], np.zeros(1))
    assert np.isfinite(measure(frames, list(DIMS))).all()
