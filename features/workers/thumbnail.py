"""Makes a thumbnail of a clip in a confined process.

``thumbnail`` starts this module as ``python -m features.workers.thumbnail``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import av
import av.error
import av.logging
import cv2
import numpy as np

from features.config import Limits
from features.container.media_file import MediaFile
from features.errors import MediaError, Reason
from features.video.sampling import sample_frames
from features.video.scaling import (
    apply_display_matrix,
    display_matrix,
    set_default_colorspace,
    swaps_sides,
)
from features.video.timeline import Timeline
from features.workers import sandbox
from features.workers.process import child_environment

# Pixels.
WIDTH = 160
_JPEG_QUALITY = 80


def thumbnail(path: Path, limits: Limits) -> bytes:
    """Return a JPEG of a clip's middle frame, 160 pixels wide.

    Raises:
        MediaError: no frame can be decoded within the limits.
    """
    job = {"path": str(path), "parent": os.getpid(), "limits": limits.model_dump(mode="json")}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "features.workers.thumbnail"],
            input=json.dumps(job).encode(),
            capture_output=True,
            env=child_environment(),
            timeout=limits.wall_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise MediaError(
            Reason.TIMED_OUT,
            f"longer than {limits.wall_seconds:g} s of wall time (limits.wall_seconds)",
        ) from error
    if done.returncode or not done.stdout.startswith(b"\xff\xd8"):
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise MediaError(Reason.UNDECODABLE, f"no thumbnail: {''.join(last)[:200]}")
    return done.stdout


def _middle_frame(media: MediaFile) -> bytes:
    jpegs: list[bytes] = []

    def select_pts(timeline: Timeline) -> Collection[int]:
        return {timeline.pts_at(timeline.seconds / 2)}

    def on_frame(_: int, frame: av.VideoFrame) -> None:
        matrix = display_matrix(frame)
        scale = WIDTH / (frame.height if swaps_sides(matrix) else frame.width)
        width, height = (max(2, round(scale * side)) for side in (frame.width, frame.height))
        scaled = set_default_colorspace(frame).reformat(width=width, height=height, format="bgr24")
        image = apply_display_matrix(np.asarray(scaled.to_ndarray(), np.uint8), matrix)
        _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        jpegs.append(jpeg.tobytes())

    sample_frames(media, select_pts, on_frame)
    return jpegs[-1]


def main() -> int:
    """Confine this process, read a job from stdin, write a JPEG to stdout; return the status."""
    job = json.loads(sys.stdin.buffer.read())
    av.logging.set_level(None)
    sandbox.die_with_parent(job["parent"])
    sandbox.leave_network()
    limits = Limits.model_validate(job["limits"])
    sandbox.confine(limits).allow_one_file()
    try:
        sys.stdout.buffer.write(_middle_frame(MediaFile(Path(job["path"]), limits)))
    except (MediaError, av.error.FFmpegError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
