"""Decodes video with OpenCV when PyAV cannot."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from fractions import Fraction

import av
import cv2
import numpy as np

from features.arrays import UInt8Array
from features.container.budget import Budget
from features.container.media_file import DEMUXERS, MediaFile
from features.errors import MediaError, Reason
from features.video.timeline import Timeline, build_timeline

_TICKS_PER_SECOND = 1_000_000


def read_timeline(media: MediaFile) -> Timeline:
    """Decode all frames and return their times, in ticks of a microsecond.

    Raises:
        MediaError: undecodable, or one of the limits.
    """
    pts = [time for time, _ in _frames(media)]
    if not pts:
        raise MediaError(Reason.UNDECODABLE, "OpenCV decodes no frame either")
    return build_timeline(pts, [0] * len(pts), 1 / _TICKS_PER_SECOND, 0.0, media.limits)


def decode(
    media: MediaFile, wanted: set[int], on_frame: Callable[[int, av.VideoFrame], None]
) -> None:
    """Call ``on_frame(pts, frame)`` for each wanted frame, upright and in BGR.

    Args:
        media: the file.
        wanted: pts from ``read_timeline``; those that were decoded are removed.
        on_frame: receives each wanted frame.

    Raises:
        MediaError: undecodable if a frame of ``read_timeline`` is missing the second time.
    """
    for pts, image in _frames(media):
        if pts in wanted:
            wanted.discard(pts)
            frame = av.VideoFrame.from_ndarray(image, "bgr24")
            frame.pts = pts
            frame.time_base = Fraction(1, _TICKS_PER_SECOND)
            on_frame(pts, frame)
        if not wanted:
            return
    raise MediaError(Reason.UNDECODABLE, f"OpenCV misses {len(wanted)} frames in a second reading")


def _frames(media: MediaFile) -> Iterator[tuple[int, UInt8Array]]:
    """Yield (pts, BGR uint8 [H, W, 3]) of every frame."""
    # The same restrictions as for PyAV. OpenCV takes options only from this variable.
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = (
        f"protocol_whitelist;file|format_whitelist;{DEMUXERS}|threads;1"
    )
    capture = cv2.VideoCapture(str(media.path.absolute()), cv2.CAP_FFMPEG)
    budget = Budget(media.limits)
    last = -1
    try:
        # Checked before decoding: OpenCV has no option that limits the frame size.
        sides = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        budget.check_frame_size(*(int(capture.get(side)) for side in sides))
        while capture.isOpened():
            more, image = capture.read()
            if not more:
                return
            budget.add_frame(image.shape[1], image.shape[0], 24)
            pts = max(round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1000), last + 1)
            last = pts
            yield pts, np.asarray(image, np.uint8)
    finally:
        capture.release()
