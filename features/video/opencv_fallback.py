"""The second decoder for pictures: OpenCV, where PyAV cannot."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from features.config import Limits
from features.container.budget import Budget
from features.container.media_file import DEMUXERS
from features.errors import MediaError, Reason
from features.video.timeline import Timeline, build_timeline

_TICKS = 1_000_000


def read_timeline(path: Path, limits: Limits) -> Timeline:
    """Return the times of the frames that OpenCV decodes, in microseconds.

    Raises:
        MediaError: undecodable, or one of the limits.
    """
    pts = [ticks for ticks, _ in _frames(path, limits)]
    if not pts:
        raise MediaError(Reason.UNDECODABLE, "OpenCV reads no frame either")
    return build_timeline(pts, [0] * len(pts), 1 / _TICKS, 0.0, limits)


def decode(
    path: Path, left: set[int], receive: Callable[[int, av.VideoFrame], None], limits: Limits
) -> None:
    """Call ``receive(ticks, frame)`` for each wanted frame, upright and in BGR.

    Raises:
        MediaError: undecodable when frames of ``read_timeline`` do not come again.
    """
    for ticks, image in _frames(path, limits):
        if ticks in left:
            left.discard(ticks)
            frame = av.VideoFrame.from_ndarray(image, "bgr24")
            frame.pts = ticks
            frame.time_base = Fraction(1, _TICKS)
            receive(ticks, frame)
        if not left:
            return
    raise MediaError(Reason.UNDECODABLE, f"OpenCV misses {len(left)} frames in a second reading")


def _frames(path: Path, limits: Limits) -> Iterator[tuple[int, np.ndarray]]:
    # The same walls as for PyAV: this is the only way to hand OpenCV its options.
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = (
        f"protocol_whitelist;file|format_whitelist;{DEMUXERS}|threads;1"
    )
    capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
    budget = Budget(limits)
    last = -1
    try:
        # Before it decodes: OpenCV has no option that would refuse a frame of any size.
        sides = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        budget.check_size(*(int(capture.get(side)) for side in sides))
        while capture.isOpened():
            more, image = capture.read()
            if not more:
                return
            budget.count(image.shape[1], image.shape[0], 24)
            ticks = max(round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1000), last + 1)
            last = ticks
            yield ticks, np.asarray(image, np.uint8)
    finally:
        capture.release()
