"""When each frame of a video is shown, read from the packets without decoding."""

from __future__ import annotations

from dataclasses import dataclass

import av
import av.error
import numpy as np
import numpy.typing as npt

from features.config import Limits
from features.errors import MediaError, Reason


@dataclass(frozen=True)
class Timeline:
    """Presentation times of a video stream.

    Attributes:
        pts: int64 [P], presentation times in ticks, in the order of the packets.
        keyframe: bool [P], packets at which decoding may start.
        order: int64 [P], indices that sort ``pts``.
        time_base: seconds per tick.
        end: ticks at which the last frame ends.
        decoded: the times come from decoded frames, because packets did not tell.
        missing_share: share of the promised length that the packets do not reach.
    """

    pts: npt.NDArray[np.int64]
    keyframe: npt.NDArray[np.bool_]
    order: npt.NDArray[np.int64]
    time_base: float
    end: int
    decoded: bool
    missing_share: float

    @property
    def start(self) -> int:
        """Ticks at which the first frame is shown."""
        return int(self.pts[self.order[0]])

    @property
    def seconds(self) -> float:
        """Seconds from the first frame to the end of the last."""
        return (self.end - self.start) * self.time_base

    def shown_at(self, seconds: float) -> int:
        """Return the pts of the frame on the screen ``seconds`` after the first frame."""
        ticks = self.start + seconds / self.time_base
        # One part in a thousand of a tick absorbs the rounding of seconds to ticks.
        place = int(np.searchsorted(self.pts[self.order], ticks + 1e-3, side="right")) - 1
        return int(self.pts[self.order[max(place, 0)]])


def tick_seconds(stream: av.video.stream.VideoStream | av.audio.stream.AudioStream) -> float:
    """Return the seconds of one tick of a stream.

    Raises:
        MediaError: undecodable, when the container gives none.
    """
    if not stream.time_base:
        raise MediaError(Reason.UNDECODABLE, "the stream has no time base")
    return float(stream.time_base)


def frame_ticks(pts: npt.NDArray[np.int64], last_duration: int) -> int:
    """Return the ticks for which the last frame is shown: its own, else the median step."""
    if last_duration > 0:
        return last_duration
    return int(np.median(np.diff(pts))) if len(pts) > 1 else 1


def scan(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream, limits: Limits
) -> Timeline | None:
    """Read the packets of a stream; return None where they do not tell the times.

    Raises:
        MediaError: too_long by frames or seconds, undecodable without a packet.
    """
    pts: list[int] = []
    keyframe: list[bool] = []
    durations: list[int] = []
    trusted = True
    try:
        for packet in container.demux(stream):
            if packet.size == 0 or packet.is_discard:
                continue
            if packet.pts is None or packet.is_corrupt:
                trusted = False
                continue
            pts.append(packet.pts)
            keyframe.append(packet.is_keyframe)
            durations.append(packet.duration or 0)
            if len(pts) > limits.frames:
                raise MediaError(Reason.TOO_LONG, f"over {limits.frames} frames (limits.frames)")
    except av.error.FFmpegError:
        trusted = False
    if not pts or not trusted or len(set(pts)) < len(pts):
        return None
    return build(pts, keyframe, durations, stream, limits, decoded=False)


def build(
    pts: list[int],
    keyframe: list[bool],
    durations: list[int],
    stream: av.video.stream.VideoStream,
    limits: Limits,
    *,
    decoded: bool,
) -> Timeline:
    """Make a timeline and hold it against the limits.

    Raises:
        MediaError: too_long.
    """
    ticks = np.array(pts, np.int64)
    order = np.argsort(ticks, kind="stable")
    last = int(order[-1])
    end = int(ticks[last]) + frame_ticks(ticks[order], durations[last])
    time_base = tick_seconds(stream)
    seconds = (end - int(ticks[order[0]])) * time_base
    if seconds > limits.seconds:
        raise MediaError(
            Reason.TOO_LONG, f"{seconds:.1f} s, {limits.seconds:g} are allowed (limits.seconds)"
        )
    promised = float(stream.duration) * time_base if stream.duration else 0.0
    missing = max(0.0, 1.0 - seconds / promised) if promised > 0 else 0.0
    return Timeline(ticks, np.array(keyframe), order, time_base, end, decoded, missing)
