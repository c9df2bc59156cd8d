"""Draws video frames: six kinds of scene that look and move differently.

A clip is a sequence of shots. In each shot the camera pans over a large still canvas, and sprites
move through the picture. The `PictureControls` of a video vary colour, light, motion, scale and cut
rate within its kind of scene.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from scipy import fft

from models.arrays import Float32Array, Float64Array, UInt8Array

_CANVAS = 512
_MARGIN = 320
_SLOWEST, _FASTEST = 4.0, 160.0
_FEWEST_CUTS, _MOST_CUTS = 0.15, 1.6


@dataclass(frozen=True)
class PictureControls:
    """Controls of a video within its kind of scene, each in [0, 1]; they come from its latent.

    Attributes:
        hue: position of the palette within the scene's part of the colour wheel.
        saturation: grey to coloured.
        light: dark to bright.
        contrast: low to high contrast.
        speed: slow to fast panning, 4 to 160 pixels per second.
        direction: panning to the right (0), upwards (0.5) or to the left (1).
        scale: small to large shapes.
        cuts: few to many cuts, 0.15 to 1.6 per second.
    """

    hue: float
    saturation: float
    light: float
    contrast: float
    speed: float
    direction: float
    scale: float
    cuts: float


@dataclass(frozen=True)
class _Shot:
    """One shot of a clip.

    Attributes:
        canvas: uint8 [C + margin, C + margin, 3]. The margin repeats the first rows and columns, so
            that a window across the edge is one slice.
        palette: uint8 [256, 3], RGB colour of each level.
        seeds: float64 [24, 4], random numbers in [0, 1) that place and move the sprites.
        origin: first position of the camera on the canvas in pixels, x and y.
    """

    canvas: UInt8Array
    palette: UInt8Array
    seeds: Float64Array
    origin: tuple[float, float]


def make_frames(
    scene: int,
    controls: PictureControls,
    seconds: float,
    fps: int,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> Iterator[UInt8Array]:
    """Draw a clip frame by frame.

    Args:
        scene: kind of scene, an index of `SCENES`.
        controls: the controls of the video.
        seconds: length of the clip.
        fps: frames per second.
        size: width and height in pixels, at most 319 each.
        rng: source of shapes and cuts.

    Yields:
        round(seconds * fps) frames, each uint8 [H, W, 3] in RGB.
    """
    count = round(seconds * fps)
    cuts = _cut_frames(controls, count, fps, rng)
    velocity = _velocity(controls)
    shot = _make_shot(scene, controls, rng)
    for index in range(count):
        if index in cuts:
            shot = _make_shot(scene, controls, rng)
        time = index / fps
        frame = _pan(shot, velocity[0] * time, velocity[1] * time, size)
        SCENES[scene].animate(frame, shot, controls, time)
        yield frame


def _cut_frames(
    controls: PictureControls, count: int, fps: int, rng: np.random.Generator
) -> set[int]:
    rate = _FEWEST_CUTS * (_MOST_CUTS / _FEWEST_CUTS) ** controls.cuts
    gap = fps / rate
    first = gap * rng.uniform(0.3, 0.9)
    return {round(first + gap * number) for number in range(int(count / gap) + 1)}


def _velocity(controls: PictureControls) -> tuple[float, float]:
    speed = _SLOWEST * (_FASTEST / _SLOWEST) ** controls.speed
    angle = np.pi * controls.direction
    return float(speed * np.cos(angle)), float(-speed * np.sin(angle))


def _make_shot(scene: int, controls: PictureControls, rng: np.random.Generator) -> _Shot:
    palette = _palette(scene, controls, rng)
    levels = np.clip(SCENES[scene].draw(controls, rng) * 255.0, 0, 255).astype(np.uint8)
    canvas = np.pad(palette[levels], ((0, _MARGIN), (0, _MARGIN), (0, 0)), mode="wrap")
    origin = tuple(rng.uniform(0.0, _CANVAS, 2))
    return _Shot(canvas, palette, rng.uniform(0.0, 1.0, (24, 4)), (origin[0], origin[1]))


def _palette(scene: int, controls: PictureControls, rng: np.random.Generator) -> UInt8Array:
    """Return uint8 [256, 3]: the RGB colour of each level, from shadow to highlight."""
    base, spread = SCENES[scene].hue, SCENES[scene].spread
    hue = base + 0.16 * (controls.hue - 0.5) + rng.normal(0.0, 0.008)
    level = np.linspace(0.0, 1.0, 256)
    gain = 0.45 + 1.1 * controls.contrast
    value = np.clip(0.5 + (level - 0.5) * gain + 0.55 * (controls.light - 0.5), 0.02, 1.0)
    saturation = np.clip((0.12 + 0.8 * controls.saturation) * (1.15 - 0.5 * level), 0.0, 1.0)
    hsv = np.stack(
        [((hue + spread * (level - 0.5)) % 1.0) * 360.0, saturation, value], axis=1
    ).astype(np.float32)
    rgb = cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0]
    return np.asarray(np.round(rgb * 255.0), np.uint8)


def _pan(shot: _Shot, dx: float, dy: float, size: tuple[int, int]) -> UInt8Array:
    x, y = shot.origin[0] + dx, shot.origin[1] + dy
    left, top = int(np.floor(x)), int(np.floor(y))
    column, row = left % _CANVAS, top % _CANVAS
    window = shot.canvas[row : row + size[1] + 1, column : column + size[0] + 1]
    shift = np.array([[1.0, 0.0, left - x], [0.0, 1.0, top - y]])
    return np.asarray(
        cv2.warpAffine(window, shift, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    )


def _noise(softness: float, rng: np.random.Generator) -> Float32Array:
    """Return float32 [C, C] in [0, 1]: a seamless texture, smooth over `softness` pixels."""
    grain = rng.standard_normal((_CANVAS, _CANVAS)).astype(np.float32)
    frequency = fft.fftfreq(_CANVAS)[:, None] ** 2 + fft.rfftfreq(_CANVAS)[None, :] ** 2
    envelope = np.exp(-2.0 * (np.pi * softness) ** 2 * frequency).astype(np.float32)
    smooth = fft.irfft2(fft.rfft2(grain) * envelope, s=grain.shape)
    return np.asarray(np.clip(0.5 + smooth / (5.0 * smooth.std()), 0.0, 1.0), np.float32)


def _draw_clouds(controls: PictureControls, rng: np.random.Generator) -> Float32Array:
    large = _noise(14.0 + 40.0 * controls.scale, rng)
    small = _noise(6.0 + 12.0 * controls.scale, rng)
    return np.asarray(0.75 * large + 0.25 * small, np.float32)


def _draw_leaves(controls: PictureControls, rng: np.random.Generator) -> Float32Array:
    canvas = np.asarray(0.3 * _noise(3.0, rng), np.float32)
    length = 7.0 + 26.0 * controls.scale
    for _ in range(int(90_000 / length**1.75)):
        centre = rng.integers(0, _CANVAS, 2).tolist()
        axes = (int(length), max(1, int(length * 0.28)))
        shade = float(rng.uniform(0.2, 1.0))
        cv2.ellipse(canvas, centre, axes, rng.uniform(40, 140), 0, 360, shade, -1, cv2.LINE_AA)
    return canvas


def _draw_street(controls: PictureControls, rng: np.random.Generator) -> Float32Array:
    canvas = np.full((_CANVAS, _CANVAS), 0.12, np.float32)
    pane = int(6 + 14 * controls.scale)
    left = 0
    while left < _CANVAS:
        width = int(rng.integers(4, 8)) * pane
        canvas[:, left : left + width - pane // 2] = rng.uniform(0.15, 0.4)
        for x in range(left + pane // 2, left + width - pane, 2 * pane):
            for y in range(pane // 2, _CANVAS, 2 * pane):
                canvas[y : y + pane, x : x + pane] = rng.choice((0.1, 0.55, 0.95))
        left += width
    return canvas


def _draw_neon(controls: PictureControls, rng: np.random.Generator) -> Float32Array:
    canvas = np.full((_CANVAS, _CANVAS), 0.08, np.float32)
    gap = int(14 + 36 * controls.scale)
    for offset in range(-_CANVAS, 2 * _CANVAS, gap):
        lean = int(rng.integers(-4, 5))
        bright = float(rng.uniform(0.5, 1.0))
        cv2.line(canvas, (offset, 0), (offset + _CANVAS + lean, _CANVAS), bright, 2, cv2.LINE_AA)
        cv2.line(canvas, (offset, 0), (offset - _CANVAS + lean, _CANVAS), bright, 2, cv2.LINE_AA)
    return np.asarray(np.maximum(canvas, cv2.GaussianBlur(canvas, (0, 0), 4)), np.float32)


def _draw_shards(controls: PictureControls, rng: np.random.Generator) -> Float32Array:
    canvas = np.full((_CANVAS, _CANVAS), 0.3, np.float32)
    reach = 14.0 + 60.0 * controls.scale
    for _ in range(int(160_000 / reach**1.8)):
        centre = rng.uniform(0, _CANVAS, 2)
        corners = np.round(centre + rng.normal(0.0, reach, (3, 2))).astype(np.int32)
        cv2.fillPoly(canvas, [corners], float(rng.choice((0.0, 0.35, 0.7, 1.0))))
    return canvas


def _draw_rings(controls: PictureControls, rng: np.random.Generator) -> Float32Array:
    y, x = np.mgrid[:_CANVAS, :_CANVAS].astype(np.float32)
    period = 10.0 + 34.0 * controls.scale
    waves = np.zeros((_CANVAS, _CANVAS), np.float32)
    for _ in range(2):
        centre = rng.uniform(0, _CANVAS, 2)
        across = np.minimum(np.abs(x - centre[0]), _CANVAS - np.abs(x - centre[0]))
        down = np.minimum(np.abs(y - centre[1]), _CANVAS - np.abs(y - centre[1]))
        waves += np.sin(np.hypot(across, down) * (2.0 * np.pi / period)).astype(np.float32)
    return np.asarray(0.5 + 0.22 * waves, np.float32)


def _animate_nothing(
    frame: UInt8Array, shot: _Shot, controls: PictureControls, time: float
) -> None:
    """Draw nothing: clouds and rings only move with the camera."""


def _animate_petals(frame: UInt8Array, shot: _Shot, controls: PictureControls, time: float) -> None:
    """Draw petals that sink through the frame."""
    height, width = frame.shape[:2]
    radius = int(2 + 6 * controls.scale)
    for x, y, pace, shade in shot.seeds[:14]:
        sway = 10.0 * np.sin(2.0 * time + 6.0 * x)
        centre = (int(x * width + sway), int((y + 0.25 * (0.5 + pace) * time) % 1.0 * height))
        cv2.circle(frame, centre, radius, _colour(shot, 0.6 + 0.4 * shade), -1, cv2.LINE_AA)


def _animate_lamps(frame: UInt8Array, shot: _Shot, controls: PictureControls, time: float) -> None:
    """Draw lamps that pass along the lower edge of the frame."""
    height, width = frame.shape[:2]
    size = int(4 + 8 * controls.scale)
    for x, y, pace, shade in shot.seeds[:6]:
        left = int((x + (0.2 + 0.5 * pace) * (0.4 + controls.speed) * time) % 1.0 * width)
        top = int(height * (0.72 + 0.2 * y))
        colour = _colour(shot, 0.75 + 0.25 * shade)
        cv2.rectangle(frame, (left, top), (left + 3 * size, top + size), colour, -1)


def _animate_discs(frame: UInt8Array, shot: _Shot, controls: PictureControls, time: float) -> None:
    """Draw discs of light that pulse."""
    height, width = frame.shape[:2]
    for x, y, pace, phase in shot.seeds[:5]:
        pulse = 0.5 + 0.5 * np.sin(2.0 * np.pi * ((1.0 + 2.0 * controls.speed) * time + phase))
        radius = int((4 + 22 * controls.scale) * (0.3 + pulse) * (0.5 + pace))
        cv2.circle(frame, (int(x * width), int(y * height)), radius, _colour(shot, 1.0), 2)


def _animate_beams(frame: UInt8Array, shot: _Shot, controls: PictureControls, time: float) -> None:
    """Draw beams of light that sweep through the frame."""
    height, width = frame.shape[:2]
    for x, _, pace, phase in shot.seeds[:4]:
        angle = 0.9 * np.sin(2.0 * np.pi * ((0.3 + controls.speed) * (0.5 + pace) * time + phase))
        foot = np.array([width * (0.2 + 0.6 * x), height])
        tip = foot + 1.3 * height * np.array([np.sin(angle), -np.cos(angle)])
        side = np.array([4.0 + 12.0 * controls.scale, 0.0])
        beam = np.round(np.stack([foot, tip - side, tip + side])).astype(np.int32)
        cv2.fillPoly(frame, [beam], _colour(shot, 0.95), cv2.LINE_AA)


def _colour(shot: _Shot, level: float) -> tuple[int, int, int]:
    red, green, blue = shot.palette[int(255 * min(level, 1.0))].tolist()
    return red, green, blue


@dataclass(frozen=True)
class Scene:
    """A kind of scene.

    Attributes:
        name: name of the scene.
        draw: returns the levels of the canvas, float32 [C, C] in [0, 1].
        animate: draws the sprites into a frame, in place.
        hue: middle of the scene's part of the colour wheel, in [0, 1].
        spread: difference of hue between shadow and highlight.
    """

    name: str
    draw: Callable[[PictureControls, np.random.Generator], Float32Array]
    animate: Callable[[UInt8Array, _Shot, PictureControls, float], None]
    hue: float
    spread: float


# The kinds of scene, in the order of the world's genre groups.
SCENES = (
    Scene("neon", _draw_neon, _animate_discs, 0.84, 0.25),
    Scene("shards", _draw_shards, _animate_beams, 0.00, 0.06),
    Scene("street", _draw_street, _animate_lamps, 0.10, 0.10),
    Scene("leaves", _draw_leaves, _animate_petals, 0.28, 0.12),
    Scene("clouds", _draw_clouds, _animate_nothing, 0.58, 0.08),
    Scene("rings", _draw_rings, _animate_nothing, 0.46, 0.16),
)
