"""When each frame of a video is shown."""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass
from itertools import pairwise

import av
import numpy as np
import numpy.typing as npt

from features.config import Limits
from features.errors import MediaError, Reason

# Ticks that absorb the rounding of seconds.
_SLACK = 1e-3
# Ticks of which two still differ by a number of 64 bits.
_FARTHEST = 1 << 62
# The most frames that a decoder holds back to bring them into order (H.264 A.3.1).
_REORDERED = 16


@dataclass(frozen=True)
class Timeline:
    """Presentation times of a video stream.

    Attributes:
        pts: int64 [P], presentation times in ticks, in the order of the packets.
        hidden: bool [P], packets that are decoded and not shown (edit lists hide them).
        clean: bool [P], packets at which decoding may start.
        order: int64 [S], indices that sort the ``pts`` of what is shown.
        time_base: seconds per tick.
        end: ticks at which the last frame ends.
        discarding: the decoder may leave out frames to which no other refers.
        suspect: frames should be reordered and their times are in the order of decoding.
        missing_share: share (0 to 1) of the promised length that is not there.
    """

    pts: npt.NDArray[np.int64]
    hidden: npt.NDArray[np.bool_]
    clean: npt.NDArray[np.bool_]
    order: npt.NDArray[np.int64]
    time_base: float
    end: int
    discarding: bool
    suspect: bool
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
        before them. Where times are suspect, they cannot tell, and all is one group.
        """
        lowest = np.iinfo(np.int64).min
        before = np.concatenate([[lowest], np.maximum.accumulate(self.pts)[:-1]])
        after = np.minimum.accumulate(self.pts[::-1])[::-1]
        opens = self.clean & (before < self.pts) & (after >= self.pts) & (not self.suspect)
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


def check_length(seconds: float, limits: Limits) -> None:
    """Raise MediaError(too_long) for more seconds than are allowed."""
    if seconds > limits.seconds:
        raise MediaError(
            Reason.TOO_LONG, f"{seconds:.1f} s, {limits.seconds:g} are allowed (limits.seconds)"
        )


def shown_times(times: list[int | None], step: float) -> list[int]:
    """Return increasing ticks for frames in the order in which they are shown.

    Args:
        times: what the container says of each, at least one frame.
        step: ticks from one frame to the next where nothing else tells, at least one.

    What has no time lies evenly between its neighbours. Times that are only in another
    order are those of decoding, and are sorted. Where times start anew, another recording
    follows the first.
    """
    filled = _fill(times, step)
    far = _REORDERED * step
    back = max((a - b for a, b in pairwise(filled)), default=0)
    if 0 < back <= far and len(set(filled)) == len(filled):
        return sorted(filled)
    found: list[int] = []
    offset = 0
    for ticks in filled:
        if found and ticks + offset <= found[-1]:
            back = found[-1] - ticks - offset
            # A single time that is not later than the last is a slip and moves no other.
            offset += back + round(step) if back > far else 0
        found.append(max(ticks + offset, found[-1] + 1) if found else ticks)
    return found


def _fill(times: list[int | None], step: float) -> list[int]:
    """Put times where there are none."""
    known = [i for i, ticks in enumerate(times) if ticks is not None]
    if not known:
        return [round(i * step) for i in range(len(times))]
    filled: list[int] = []
    for i, ticks in enumerate(times):
        if ticks is not None:
            filled.append(ticks)
            continue
        place = bisect(known, i)
        after = known[min(place, len(known) - 1)]
        later = times[after]
        assert later is not None
        if place == 0:
            filled.append(later - round((after - i) * step))
        elif after > i and later - filled[-1] > after - i:
            filled.append(filled[-1] + (later - filled[-1]) // (after - i + 1))
        else:
            filled.append(filled[-1] + round(step))
    return filled


def build_timeline(
    pts: list[int],
    durations: list[int],
    time_base: float,
    promised: float,
    limits: Limits,
    *,
    clean: list[bool] | None = None,
    hidden: list[bool] | None = None,
    discarding: bool = False,
    suspect: bool = False,
) -> Timeline:
    """Make a timeline from at least one frame and hold it against the limits.

    Args:
        pts: ticks at which frames are shown, all different, or hidden, at least one shown.
        durations: ticks for which they are shown, 0 where unknown.
        time_base: seconds per tick.
        promised: seconds that the container promises, 0 where it does not.
        limits: limits of one file.
        clean: packets at which decoding may start; None for decoded frames.
        hidden: packets that are not shown; None where all are.
        discarding: see Timeline.
        suspect: see Timeline.

    Raises:
        MediaError: too_long, or undecodable where times are too far from zero to reckon with.
    """
    if max(map(abs, pts)) > _FARTHEST:
        raise MediaError(Reason.UNDECODABLE, "times of the picture that are beyond all reason")
    ticks = np.array(pts, np.int64)
    unseen = np.array(hidden if hidden is not None else [False] * len(pts))
    shown = np.flatnonzero(~unseen)
    order = shown[np.argsort(ticks[shown], kind="stable")]
    last = int(order[-1])
    step = int(np.median(np.diff(ticks[order]))) if len(order) > 1 else 1
    end = int(ticks[last]) + (durations[last] if durations[last] > 0 else step)
    seconds = (end - int(ticks[order[0]])) * time_base
    check_length(seconds, limits)
    return Timeline(
        pts=ticks,
        hidden=unseen,
        clean=np.array(clean if clean is not None else [False] * len(pts)),
        order=order,
        time_base=time_base,
        end=end,
        discarding=discarding and not suspect,
        suspect=suspect,
        missing_share=max(0.0, 1.0 - seconds / promised) if promised > 0 else 0.0,
    )
