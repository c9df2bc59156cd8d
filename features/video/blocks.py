"""Measures motion, rhythm, cuts, colour, light and sharpness of video frames.

Music often follows these, and a pretrained image network does not see them. Every measurement
is a pure function of small RGB frames and independent of the size of the source. Speeds are in
frame widths (x) or heights (y) per second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from features.arrays import Float32Array, Float64Array, UInt8Array

# Width and height in pixels of the frames for motion, rhythm and cuts.
MOTION_SIZE = 112
# Seconds between the two frames of a pair for optical flow.
PAIR_SECONDS = 0.125
# The window of close frames around the middle of a span: length in seconds, frames per second.
WINDOW_SECONDS = 4.0
WINDOW_RATE = 8.0
# Colour distance of neighbouring frames that counts as a cut: at least this many times the
# median of the window, and at least this much.
_CUT_FACTOR, _CUT_LEAST = 3.0, 0.05
# Colour distance of neighbouring samples that counts as another scene.
_SCENE_DISTANCE = 0.35

DIMS = {"motion": 8, "rhythm": 6, "cuts": 4, "colour": 13, "light": 6, "sharpness": 3}


@dataclass(frozen=True)
class ClipFrames:
    """The frames of one clip that the measurements need.

    Attributes:
        centres: uint8 [F, S, S, 3], RGB, the sampled frames.
        pairs: for each sampled frame, two frames uint8 [MOTION_SIZE, MOTION_SIZE, 3] and the
            seconds between them.
        window: uint8 [W, MOTION_SIZE, MOTION_SIZE, 3], RGB, consecutive frames.
        window_times: float64 [W], seconds.
    """

    centres: UInt8Array
    pairs: Sequence[tuple[UInt8Array, UInt8Array, float]]
    window: UInt8Array
    window_times: Float64Array


def measure(frames: ClipFrames, blocks: Sequence[str]) -> Float64Array:
    """Return the values of the blocks, concatenated in their order, float64 [sum of DIMS]."""
    flows = [optical_flow(a, b, seconds) for a, b, seconds in frames.pairs if seconds > 0]
    steps = zip(frames.window[:-1], frames.window[1:], np.diff(frames.window_times), strict=True)
    values: dict[str, Callable[[], Float64Array]] = {
        "motion": lambda: motion(flows),
        "rhythm": lambda: rhythm([optical_flow(a, b, seconds) for a, b, seconds in steps]),
        "cuts": lambda: cuts(frames.centres, frames.window, frames.window_times),
        "colour": lambda: colour(frames.centres),
        "light": lambda: light(frames.centres),
        "sharpness": lambda: sharpness(frames.centres),
    }
    return np.concatenate([np.zeros(0), *(values[block]() for block in blocks)])


def optical_flow(first: UInt8Array, second: UInt8Array, seconds: float) -> Float32Array:
    """Return the optical flow between two frames, at every fourth pixel.

    Args:
        first: uint8 [S, S, 3], RGB.
        second: uint8 [S, S, 3], RGB, the later frame.
        seconds: time between them.

    Returns:
        float32 [S / 4, S / 4, 2], velocity (x, y) in frame sides per second.

    Source: dense inverse search (Kroeger et al., ECCV 2016), as in OpenCV.
    """
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, second)]
    field = search.calc(grey[0], grey[1], np.zeros((*grey[0].shape, 2), np.float32))
    return np.asarray(field[::4, ::4] / (first.shape[0] * seconds), np.float32)


def motion(flows: Sequence[Float32Array]) -> Float64Array:
    """Return 8 values of motion, float64 [8]; zeros if there is no flow.

    Mean, standard deviation and 90th percentile of speed over the clip; mean velocity x and
    y; consistency of direction (0 to 1); spread of speed within a frame; zoom (divergence).
    Speeds are log(1 + 10 v), velocities and zoom are arcsinh(10 v).
    """
    if not flows:
        return np.zeros(8)
    fields = np.stack(flows).astype(np.float64)
    speed = np.hypot(fields[..., 0], fields[..., 1])
    level = np.log1p(10 * speed.mean(axis=(1, 2)))
    mean = fields.mean(axis=(1, 2))
    drift = mean.mean(axis=0)
    consistency = np.hypot(*fields.mean(axis=(0, 1, 2))) / (speed.mean() + 1e-3)
    spread = np.log1p(10 * speed.std(axis=(1, 2))).mean()
    grid = np.linspace(-1, 1, fields.shape[1])
    zoom = (fields[..., 0] * grid[None, None, :] + fields[..., 1] * grid[None, :, None]).mean()
    return np.array(
        [
            level.mean(),
            level.std(),
            np.percentile(level, 90),
            np.arcsinh(10 * drift[0]),
            np.arcsinh(10 * drift[1]),
            consistency,
            spread,
            np.arcsinh(10 * zoom),
        ]
    )


def rhythm(flows: Sequence[Float32Array]) -> Float64Array:
    """Return 6 values of the rhythm of motion in the window, float64 [6].

    From the mean speed per step: its relative standard deviation; height (-1 to 1) and rate
    (Hz) of the strongest peak of its autocorrelation; share of its power (0 to 1) at 0.5-1,
    1-2 and 2-4 Hz. Zeros for fewer than 8 steps.
    """
    if len(flows) < 8:
        return np.zeros(6)
    level = np.array([np.log1p(10 * np.hypot(f[..., 0], f[..., 1]).mean()) for f in flows])
    wave = level - level.mean()
    power = np.abs(np.fft.rfft(wave * np.hanning(len(wave)))) ** 2
    total = power.sum() + 1e-9
    frequency = np.fft.rfftfreq(len(wave), 1 / WINDOW_RATE)
    bands = [
        power[(frequency >= low) & (frequency < high)].sum() / total
        for low, high in ((0.5, 1.0), (1.0, 2.0), (2.0, 4.01))
    ]
    correlation = np.correlate(wave, wave, "full")[len(wave) - 1 :] / (wave @ wave + 1e-9)
    lags = np.arange(2, len(wave) // 2 + 1)
    best = lags[int(np.argmax(correlation[lags]))]
    return np.array(
        [wave.std() / (level.mean() + 0.05), correlation[best], WINDOW_RATE / best, *bands]
    )


def cuts(centres: UInt8Array, window: UInt8Array, times: Float64Array) -> Float64Array:
    """Return 4 values of cuts and scene changes, float64 [4].

    Cuts per second in the window; share of neighbouring samples from different scenes (0 to
    1); mean and standard deviation of the colour distance of neighbouring samples (0 to 1).
    """
    far = _distances(centres)
    near = _distances(window)
    seconds = float(times[-1] - times[0]) if len(times) > 1 else 0.0
    if seconds <= 0 or far.size == 0:
        return np.zeros(4)
    cut = near > max(_CUT_FACTOR * float(np.median(near)), _CUT_LEAST)
    return np.array([cut.sum() / seconds, (far > _SCENE_DISTANCE).mean(), far.mean(), far.std()])


def _distances(frames: UInt8Array) -> Float64Array:
    """Return Hellinger distances of neighbouring colour histograms, float64 [N - 1], 0 to 1."""
    histograms = [
        cv2.calcHist([frame], [0, 1, 2], None, [4, 4, 4], [0, 256] * 3).ravel() for frame in frames
    ]
    if len(histograms) < 2:
        return np.zeros(0)
    shares = np.sqrt(np.stack(histograms) / frames[0, ..., 0].size)
    overlap = (shares[:-1] * shares[1:]).sum(axis=1)
    return np.asarray(np.sqrt(np.clip(1 - overlap, 0, 1)), np.float64)


def colour(frames: UInt8Array) -> Float64Array:
    """Return 13 values of colour over all sampled frames, float64 [13].

    Mean and standard deviation of CIELAB a, of b and of chroma (each divided by 100);
    colourfulness (Hasler and Suesstrunk 2003, divided by 100); shares of six hues, weighted by
    saturation (red, yellow, green, cyan, blue, magenta; they sum to at most 1).
    """
    flat = frames[:, ::4, ::4].reshape(-1, 1, 3)
    lab = cv2.cvtColor(flat.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[:, 0].astype(np.float64)
    a, b = lab[:, 1] / 100, lab[:, 2] / 100
    chroma = np.hypot(a, b)
    red, green, blue = (flat[:, 0, i].astype(np.float64) / 100 for i in range(3))
    rg, yb = red - green, (red + green) / 2 - blue
    colourfulness = np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean())
    hsv = cv2.cvtColor(flat, cv2.COLOR_RGB2HSV)[:, 0]
    weight = hsv[:, 1] / 255.0
    hue = ((hsv[:, 0].astype(int) + 15) // 30) % 6
    shares = np.bincount(hue, weight, 6) / (len(hue))
    return np.array(
        [a.mean(), a.std(), b.mean(), b.std(), chroma.mean(), chroma.std(), colourfulness, *shares]
    )


def light(frames: UInt8Array) -> Float64Array:
    """Return 6 values of brightness, float64 [6], each 0 to 1.

    Mean luma (BT.709); its standard deviation between frames; contrast (standard deviation
    within a frame); share of dark (below 0.15) and of bright (above 0.85) pixels; mean change
    between neighbouring samples.
    """
    luma = frames[:, ::2, ::2].astype(np.float64) @ np.array([0.2126, 0.7152, 0.0722]) / 255
    level = luma.mean(axis=(1, 2))
    change = np.abs(np.diff(level)).mean() if len(level) > 1 else 0.0
    return np.array(
        [
            level.mean(),
            level.std(),
            luma.std(axis=(1, 2)).mean(),
            (luma < 0.15).mean(),
            (luma > 0.85).mean(),
            change,
        ]
    )


def sharpness(frames: UInt8Array) -> Float64Array:
    """Return 3 values of sharpness, float64 [3].

    Mean and standard deviation over the frames of log(1 + variance of the Laplacian) / 10;
    share of edge pixels (Canny, 0 to 1).
    """
    logs, edges = [], []
    for frame in frames:
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        logs.append(np.log1p(cv2.Laplacian(grey, cv2.CV_64F).var()) / 10)
        edges.append((cv2.Canny(grey, 80, 160) > 0).mean())
    return np.array([np.mean(logs), np.std(logs), np.mean(edges)])
