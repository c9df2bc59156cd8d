"""What a pretrained network does not see and music follows: motion, rhythm, cuts, light.

Every measurement is a pure function of small RGB pictures; none depends on the size of
the source. Speeds are in widths (or heights) of the picture per second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from features.arrays import Float64Array, UInt8Array

MOTION_SIZE = 112
PAIR_SECONDS = 0.125
WINDOW_SECONDS = 4.0
WINDOW_RATE = 8.0
# Colour distance that makes a cut: this many times what is usual in the window, and this much.
_CUT_FACTOR, _CUT_LEAST = 3.0, 0.05
_SCENE_DISTANCE = 0.35


@dataclass(frozen=True)
class Moments:
    """The pictures of one clip that the measurements need.

    Attributes:
        centres: uint8 [F, S, S, 3], RGB, the sampled frames.
        pairs: of each sampled frame a picture pair of MOTION_SIZE and the seconds between.
        window: uint8 [W, MOTION_SIZE, MOTION_SIZE, 3], frames in close order.
        window_times: float64 [W], seconds.
    """

    centres: UInt8Array
    pairs: Sequence[tuple[UInt8Array, UInt8Array, float]]
    window: UInt8Array
    window_times: npt.NDArray[np.float64]


def measure(moments: Moments, blocks: Sequence[str]) -> Float64Array:
    """Return the measurements of the blocks side by side, float64 [sum of DIMS]."""
    flows = [flow(a, b, dt) for a, b, dt in moments.pairs if dt > 0]
    steps = zip(moments.window[:-1], moments.window[1:], np.diff(moments.window_times), strict=True)
    values: dict[str, Callable[[], Float64Array]] = {
        "motion": lambda: motion(flows),
        "rhythm": lambda: rhythm([flow(a, b, dt) for a, b, dt in steps]),
        "cuts": lambda: cuts(moments.centres, moments.window, moments.window_times),
        "colour": lambda: colour(moments.centres),
        "light": lambda: light(moments.centres),
        "sharpness": lambda: sharpness(moments.centres),
    }
    return np.concatenate([np.zeros(0), *(values[block]() for block in blocks)])


def flow(first: UInt8Array, second: UInt8Array, seconds: float) -> npt.NDArray[np.float32]:
    """Return optical flow float32 [h, w, 2], in picture sides per second (x, y).

    Source: dense inverse search (Kroeger et al., ECCV 2016) as in OpenCV.
    """
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (first, second)]
    field = search.calc(grey[0], grey[1], np.zeros((*grey[0].shape, 2), np.float32))
    return np.asarray(field[::4, ::4] / (first.shape[0] * seconds), np.float32)


def motion(flows: Sequence[npt.NDArray[np.float32]]) -> Float64Array:
    """Return 8 values of how the picture moves; zeros without a pair of frames.

    Level (mean speed over the clip), its deviation, its 90th percentile; mean velocity
    x and y; consistency of direction (0 to 1); spread of speed inside a frame; zoom
    (divergence). Speeds are log(1 + 10 v).
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


def rhythm(flows: Sequence[npt.NDArray[np.float32]]) -> Float64Array:
    """Return 6 values of how motion swells and ebbs within the window.

    Deviation of the level over its mean; height (-1 to 1) and rate (Hz) of the strongest
    peak of its autocorrelation; share of its power (0 to 1) at 0.5-1, 1-2 and 2-4 Hz.
    Zeros for fewer than 8 steps.
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


def cuts(centres: UInt8Array, window: UInt8Array, times: npt.NDArray[np.float64]) -> Float64Array:
    """Return 4 values of how the picture changes abruptly.

    Cuts per second in the window; share of neighbouring samples that lie across a change
    of scene (0 to 1); mean and deviation of the colour distance of neighbours (0 to 1).
    """
    far = _distances(centres)
    near = _distances(window)
    seconds = float(times[-1] - times[0]) if len(times) > 1 else 0.0
    if seconds <= 0 or far.size == 0:
        return np.zeros(4)
    cut = near > max(_CUT_FACTOR * float(np.median(near)), _CUT_LEAST)
    return np.array([cut.sum() / seconds, (far > _SCENE_DISTANCE).mean(), far.mean(), far.std()])


def _distances(pictures: UInt8Array) -> Float64Array:
    """Return Hellinger distances [N - 1] between colour histograms of neighbours, 0 to 1."""
    histograms = [
        cv2.calcHist([picture], [0, 1, 2], None, [4, 4, 4], [0, 256] * 3).ravel()
        for picture in pictures
    ]
    if len(histograms) < 2:
        return np.zeros(0)
    shares = np.sqrt(np.stack(histograms) / pictures[0, ..., 0].size)
    overlap = (shares[:-1] * shares[1:]).sum(axis=1)
    return np.asarray(np.sqrt(np.clip(1 - overlap, 0, 1)), np.float64)


def colour(pictures: UInt8Array) -> Float64Array:
    """Return 13 values of colour over all sampled frames.

    CIELAB a and b, mean and deviation (of 100); chroma, mean and deviation (of 100);
    colourfulness (Hasler and Suesstrunk 2003, of 100); shares of six hues, weighted by
    saturation (red, yellow, green, cyan, blue, magenta; they sum to at most 1).
    """
    flat = pictures[:, ::4, ::4].reshape(-1, 1, 3)
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


def light(pictures: UInt8Array) -> Float64Array:
    """Return 6 values of brightness, each 0 to 1.

    Mean luma, its deviation from frame to frame, contrast (deviation inside a frame),
    share of dark (below 0.15) and of bright (above 0.85) points, change between
    neighbouring samples.
    """
    luma = pictures[:, ::2, ::2].astype(np.float64) @ np.array([0.2126, 0.7152, 0.0722]) / 255
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


def sharpness(pictures: UInt8Array) -> Float64Array:
    """Return 3 values: log variance of the Laplacian, mean and deviation; edge density."""
    logs, edges = [], []
    for picture in pictures:
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        logs.append(np.log1p(cv2.Laplacian(grey, cv2.CV_64F).var()) / 10)
        edges.append((cv2.Canny(grey, 80, 160) > 0).mean())
    return np.array([np.mean(logs), np.std(logs), np.mean(edges)])


DIMS = {"motion": 8, "rhythm": 6, "cuts": 4, "colour": 13, "light": 6, "sharpness": 3}
