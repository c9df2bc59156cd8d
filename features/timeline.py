"""When each frame of a video is shown."""

from __future__ import annotations

from dataclasses import dataclass

import av
import av.error
import numpy as np
import numpy.typing as npt

from features import nal
from features.config import Limits
from features.container import read_packets
from features.ending import promised_seconds
from features.errors import MediaError, Reason

# Decoders that take the order to leave out frames to which no other refers at any time.
# (libdav1d takes it once, when it opens; ffmpeg's VP9 decoder does not know it.)
_DISCARDING = {"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vp8"}

# Ticks that absorb the rounding of seconds.
_SLACK = 1e-3


@dataclass(frozen=True)
class Timeline:
    """Presentation times of a video stream.

    Attributes:
        pts: int64 [P], presentation times in ticks, in the order of the packets.
        clean: bool [P], packets at which decoding may start.
        order: int64 [P], indices that sort ``pts``.
        time_base: seconds per tick.
        end: ticks at which the last frame ends.
        decoded: the times come from decoded frames, because packets did not tell.
        discarding: the decoder may leave out frames to which no other refers.
        missing_share: share (0 to 1) of the promised length that is not there.
    """

    pts: npt.NDArray[np.int64]
    clean: npt.NDArray[np.bool_]
    order: npt.NDArray[np.int64]
    time_base: float
    end: int
    decoded: bool
    discarding: bool
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
        return self._last_up_to(seconds, _SLACK)

    def shown_before(self, seconds: float) -> int:
        """Return the pts of the last frame that comes before ``seconds`` after the first."""
        return self._last_up_to(seconds, -_SLACK)

    def _last_up_to(self, seconds: float, slack: float) -> int:
        ticks = self.start + seconds / self.time_base + slack
        place = int(np.searchsorted(self.pts[self.order], ticks, side="right")) - 1
        return int(self.pts[self.order[max(place, 0)]])

    def groups(self) -> list[tuple[int, int]]:
        """Return [start, stop) packets of the groups that can be decoded on their own.

        A keyframe opens a group only when every packet before it is shown before it and
        every packet from it on is shown at or after it; so open groups merge with those
        before them.
        """
        lowest = np.iinfo(np.int64).min
        before = np.concatenate([[lowest], np.maximum.accumulate(self.pts)[:-1]])
        after = np.minimum.accumulate(self.pts[::-1])[::-1]
        opens = self.clean & (before < self.pts) & (after >= self.pts)
        opens[0] = True
        starts = np.flatnonzero(opens).tolist()
        return list(zip(starts, [*starts[1:], len(self.pts)], strict=True))


def tick_seconds(stream: av.VideoStream | av.AudioStream) -> float:
    """Return the seconds of one tick of a stream.

    Raises:
        MediaError: undecodable, when the container gives none.
    """
    if not stream.time_base:
        raise MediaError(Reason.UNDECODABLE, "the stream has no time base")
    return float(stream.time_base)


def build_timeline(
    pts: list[int],
    durations: list[int],
    time_base: float,
    promised: float,
    limits: Limits,
    *,
    clean: list[bool] | None = None,
    discarding: bool = False,
) -> Timeline:
    """Make a timeline from at least one frame and hold it against the limits.

    Args:
        pts: ticks at which frames are shown, all different.
        durations: ticks for which they are shown, 0 where unknown.
        time_base: seconds per tick.
        promised: seconds that the container promises, 0 where it does not.
        limits: limits of one file.
        clean: packets at which decoding may start; None for decoded frames.
        discarding: see Timeline.

    Raises:
        MediaError: too_long.
    """
    ticks = np.array(pts, np.int64)
    order = np.argsort(ticks, kind="stable")
    last = int(order[-1])
    step = int(np.median(np.diff(ticks[order]))) if len(pts) > 1 else 1
    end = int(ticks[last]) + (durations[last] if durations[last] > 0 else step)
    seconds = (end - int(ticks[order[0]])) * time_base
    if seconds > limits.seconds:
        raise MediaError(
            Reason.TOO_LONG, f"{seconds:.1f} s, {limits.seconds:g} are allowed (limits.seconds)"
        )
    return Timeline(
        pts=ticks,
        clean=np.array(clean if clean is not None else [False] * len(pts)),
        order=order,
        time_base=time_base,
        end=end,
        decoded=clean is None,
        discarding=discarding,
        missing_share=max(0.0, 1.0 - seconds / promised) if promised > 0 else 0.0,
    )


def lacks_pts(container: av.container.InputContainer, stream: av.VideoStream) -> bool:
    """Return whether frames are reordered in a container that stores no presentation times."""
    return container.format.name == "avi" and stream.codec_context.reorder_depth > 0


def scan_packets(
    container: av.container.InputContainer, stream: av.VideoStream, limits: Limits
) -> Timeline | None:
    """Read the packets of a stream; return None where they do not tell the times.

    Raises:
        MediaError: too_long.
    """
    pts: list[int] = []
    clean: list[bool] = []
    durations: list[int] = []
    codec = stream.codec_context.name
    extradata = stream.codec_context.extradata
    discarding = codec in _DISCARDING
    if lacks_pts(container, stream):
        return None
    try:
        for packet in read_packets(container, stream):
            if packet.size == 0 or packet.is_discard:
                continue
            if packet.pts is None or packet.is_corrupt:
                return None
            keyframe = packet.is_keyframe
            if keyframe and codec == "h264":
                # Recovery points, where a picture only heals gradually, are marked alike.
                keyframe = nal.is_idr(bytes(packet), extradata)
            if discarding and codec == "hevc":
                # A frame of a lower layer counts as unreferenced though higher layers use it.
                discarding = nal.temporal_layer(bytes(packet), extradata) == 0
            pts.append(packet.pts)
            clean.append(keyframe)
            durations.append(packet.duration or 0)
            if len(pts) > limits.frames:
                raise MediaError(Reason.TOO_LONG, f"over {limits.frames} frames (limits.frames)")
    except av.error.FFmpegError:
        return None
    if not pts or len(set(pts)) < len(pts):
        return None
    return build_timeline(
        pts,
        durations,
        tick_seconds(stream),
        promised_seconds(stream),
        limits,
        clean=clean,
        discarding=discarding,
    )
