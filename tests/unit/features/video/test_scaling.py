from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from features.video.scaling import Scaler, apply_display_matrix, display_matrix
from tests.helpers.media_kinds import KINDS, draw_frame


def flat_frame(
    colorspace: int, color_range: int, size: tuple[int, int] = (64, 64)
) -> av.VideoFrame:
    """Return a frame of one colour: Y 120, U 90, V 200."""
    frame = av.VideoFrame(*size, "yuv420p")
    for plane, value in zip(frame.planes, (120, 90, 200), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    frame.colorspace, frame.color_range = colorspace, color_range
    frame.time_base = Fraction(1, 25)
    return frame


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("colorspace", "red", "blue"),
    [(1, 0.2126, 0.0722), (5, 0.299, 0.114), (2, 0.299, 0.114), (9, 0.2627, 0.0593)],
)
def test_colours_follow_the_matrix_and_range_of_the_frame(
    colorspace: int, red: float, blue: float, full: bool
) -> None:
    # Expected from the inverse of the luma equations of ITU-R BT.709, BT.601 and BT.2020.
    luma = 120 / 255 if full else (120 - 16) / 219
    u, v = ((value - 128) / (255 if full else 224) for value in (90, 200))
    r, b = luma + 2 * (1 - red) * v, luma + 2 * (1 - blue) * u
    g = (luma - red * r - blue * b) / (1 - red - blue)
    shown = Scaler(16)(flat_frame(colorspace, 2 if full else 1))
    np.testing.assert_allclose(shown[8, 8], 255 * np.array([r, g, b]), atol=1)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("size", "matrix"),
    [
        ((640, 360), 5),
        ((540, 960), 5),
        ((854, 480), 5),
        ((960, 720), 1),
        ((1280, 720), 1),
        ((720, 1280), 1),
        ((1280, 534), 1),
    ],
)
def test_a_frame_without_a_matrix_gets_that_of_its_size(
    size: tuple[int, int], matrix: int, full: bool
) -> None:
    shown = Scaler(16)(flat_frame(2, 2 if full else 1, size))
    np.testing.assert_array_equal(shown, Scaler(16)(flat_frame(matrix, 2 if full else 1, size)))
    tagged = [Scaler(16)(flat_frame(tag, 1, size)) for tag in (1, 5, 9)]
    assert len({picture.tobytes() for picture in tagged}) == 3


def test_a_large_rgb_frame_gets_no_matrix() -> None:
    image = np.full((720, 1280, 3), (10, 200, 99), np.uint8)
    assert (Scaler(16)(av.VideoFrame.from_ndarray(image, "rgb24")) == (10, 200, 99)).all()


def test_scaling_averages_every_source_pixel() -> None:
    source = np.random.default_rng(0).integers(0, 256, (896, 896, 3), np.uint8)
    frame = av.VideoFrame.from_ndarray(source, "rgb24")
    blocks = source.reshape(224, 4, 224, 4, 3).astype(float).mean(axis=(1, 3))
    assert np.abs(Scaler(224)(frame) - blocks).mean() < 1.0


def test_a_scaler_follows_a_change_of_size_and_format() -> None:
    scale = Scaler(32)
    for size, layout in ((64, "yuv420p"), (128, "yuv420p"), (128, "yuv444p"), (64, "gray")):
        image = np.full((size, size, 3), 200, np.uint8)
        frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format=layout)
        np.testing.assert_allclose(scale(frame), 200, atol=3)


@pytest.mark.parametrize("name", [kind.name for kind in KINDS if kind.prepare])
def test_scaled_frames_are_upright(name: str, rendered: Callable[[str], Path]) -> None:
    with av.open(str(rendered(name))) as container:
        frame = next(container.decode(video=0))
    shown = Scaler(112)(frame).astype(float)
    plain = av.VideoFrame.from_ndarray(draw_frame(0), "rgb24")
    truth = Scaler(112)(plain).astype(float)
    assert display_matrix(frame) != (1, 0, 0, 1)
    assert np.abs(shown - truth).mean() < 6


@pytest.mark.parametrize(
    ("matrix", "reference"),
    [
        ((1, 0, 0, 1), lambda p: p),
        ((-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
        ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
        ((0, -1, 1, 0), lambda p: np.rot90(p, 1)),
        ((-1, 0, 0, 1), np.fliplr),
        ((1, 0, 0, -1), np.flipud),
        ((0, 1, 1, 0), lambda p: p.transpose(1, 0, 2)),
    ],
)
def test_display_matrices_rotate_and_mirror(
    matrix: tuple[int, int, int, int], reference: Callable[[np.ndarray], np.ndarray]
) -> None:
    small = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    np.testing.assert_array_equal(apply_display_matrix(small, matrix), reference(small))
