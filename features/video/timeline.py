"""Builds the timeline of a video stream: when each frame is shown."""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass
from itertools import pairwise

import av
import numpy as np

from features.arrays import BoolArray, Int64Array
from features.config import Limits
from features.errors import MediaError, Reason

# Ticks; absorbs the rounding of seconds.
_TOLERANCE = 1e-3
# Largest pts. The difference of two still fits into 64 bits.
_LARGEST_PTS = 1 << 62
# Most frames that a decoder holds back to reorder them (H.264 A.3.1).
_MOST_REORDERED = 16


@dataclass(frozen=True)
class Timeline:
    """Presentation timestamps (pts) of a video stream.

    Attributes:
        pts: int64 [P], ticks, in the order of the packets.
        hidden: bool [P], packets that are decoded but not shown (edit lists hide them).
        random_access: bool [P], packets at which decoding can start.
        display_order: int64 [S], indices of the shown packets, sorted by pts.
        time_base: seconds per tick.
        end_pts: ticks at which the last frame ends.
        can_skip: the decoder can skip frames to which no other frame refers.
        pts_in_doubt: frames are reordered but pts ascend with the packets, so that they are
            probably decoding times.
        missing_share: share (0 to 1) of the declared length that is missing.
    """

    pts: Int64Array
    hidden: BoolArray
    random_access: BoolArray
    display_order: Int64Array
    time_base: float
    end_pts: int
    can_skip: bool
    pts_in_doubt: bool
    missing_share: float

    @property
    def start_pts(self) -> int:
        """Ticks at which the first frame is shown."""
        return int(self.pts[self.display_order[0]])

    @property
    def seconds(self) -> float:
        """Duration from the first frame to the end of the last."""
        return (self.end_pts - self.start_pts) * self.time_base

    def pts_at(self, seconds: float) -> int:
        """Return the pts of the frame on the screen, ``seconds`` after the first frame."""
        return self._last_up_to(seconds, _TOLERANCE)

    def pts_before(self, seconds: float) -> int:
        """Return the pts of the last frame earlier than ``seconds`` after the first frame."""
        return self._last_up_to(seconds, -_TOLERANCE)

    def _last_up_to(self, seconds: float, tolerance: float) -> int:
        ticks = self.start_pts + seconds / self.time_base + tolerance
        place = int(np.searchsorted(self.pts[self.display_order], ticks, side="right")) - 1
        return int(self.pts[self.display_order[max(place, 0)]])

    def closed_gops(self) -> list[tuple[int, int]]:
        """Return the packets [start, stop) of the groups that can be decoded on their own.

        A random access point starts a group only if all earlier packets are shown before it
        and all later ones after it. An open GOP is therefore merged with the one before it.
        Where pts are in doubt this cannot be known, and all packets form one group.
        """
        lowest = np.iinfo(np.int64).min
        before = np.concatenate([[lowest], np.maximum.accumulate(self.pts)[:-1]])
        after = np.minimum.accumulate(self.pts[::-1])[::-1]
        is_start = self.random_access & (before < self.pts) & (after >= self.pts)
        is_start &= not self.pts_in_doubt
        is_start[0] = True
        starts = np.flatnonzero(is_start).tolist()
        return list(zip(starts, [*starts[1:], len(self.pts)], strict=True))


def seconds_per_tick(stream: av.VideoStream | av.AudioStream) -> float:
    """Return the time base of a stream.

    Raises:
        MediaError: undecodable if the container has none.
    """
    if not stream.time_base:
        raise MediaError(Reason.UNDECODABLE, "the stream has no time base")
    return float(stream.time_base)


def check_duration(seconds: float, limits: Limits) -> None:
    """Raise MediaError(too_long) for more seconds than are allowed."""
    if seconds > limits.seconds:
        raise MediaError(
            Reason.TOO_LONG, f"{seconds:.1f} s; {limits.seconds:g} are allowed (limits.seconds)"
        )


def increasing_pts(pts: list[int | None], step: float) -> list[int]:
    """Return increasing pts for frames in display order.

    Args:
        pts: what the container gives for each frame, at least one frame.
        step: ticks between frames where the container gives none, at least 1.

    Missing pts are interpolated. If pts are only out of order, they are decoding times and
    are sorted. If they restart, a second recording follows the first.
    """
    filled = _interpolate(pts, step)
    far = _MOST_REORDERED * step
    largest_drop = max((a - b for a, b in pairwise(filled)), default=0)
    if 0 < largest_drop <= far and len(set(filled)) == len(filled):
        return sorted(filled)
    increasing: list[int] = []
    offset = 0
    for ticks in filled:
        if increasing and ticks + offset <= increasing[-1]:
            drop = increasing[-1] - ticks - offset
            # One pts that repeats the last one is a slip and does not move later ones.
            offset += drop + round(step) if drop > far else 0
        increasing.append(max(ticks + offset, increasing[-1] + 1) if increasing else ticks)
    return increasing


def _interpolate(pts: list[int | None], step: float) -> list[int]:
    known = [i for i, ticks in enumerate(pts) if ticks is not None]
    if not known:
        return [round(i * step) for i in range(len(pts))]
    filled: list[int] = []
    for i, ticks in enumerate(pts):
        if ticks is not None:
            filled.append(ticks)
            continue
        place = bisect(known, i)
        after = known[min(place, len(known) - 1)]
        later = pts[after]
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
    declared: float,
    limits: Limits,
    *,
    random_access: list[bool] | None = None,
    hidden: list[bool] | None = None,
    can_skip: bool = False,
    pts_in_doubt: bool = False,
) -> Timeline:
    """Build a timeline and check it against the limits.

    Args:
        pts: ticks at which frames are shown, all different unless hidden; at least one is shown.
        durations: ticks for which they are shown, 0 if unknown.
        time_base: seconds per tick.
        declared: seconds that the container declares, 0 if none.
        limits: limits of one file.
        random_access: see Timeline; None for decoded frames.
        hidden: see Timeline; None if all are shown.
        can_skip: see Timeline.
        pts_in_doubt: see Timeline.

    Raises:
        MediaError: too_long, or undecodable if times are too large for 64-bit arithmetic.
    """
    if max(map(abs, pts)) > _LARGEST_PTS:
        raise MediaError(Reason.UNDECODABLE, "video timestamps over 2^62 ticks")
    ticks = np.array(pts, np.int64)
    is_hidden = np.array(hidden if hidden is not None else [False] * len(pts))
    shown = np.flatnonzero(~is_hidden)
    order = shown[np.argsort(ticks[shown], kind="stable")]
    last = int(order[-1])
    step = int(np.median(np.diff(ticks[order]))) if len(order) > 1 else 1
    end = int(ticks[last]) + (durations[last] if durations[last] > 0 else step)
    seconds = (end - int(ticks[order[0]])) * time_base
    check_duration(seconds, limits)
    return Timeline(
        pts=ticks,
        hidden=is_hidden,
        random_access=np.array(random_access if random_access is not None else [False] * len(pts)),
        display_order=order,
        time_base=time_base,
        end_pts=end,
        can_skip=can_skip and not pts_in_doubt,
        pts_in_doubt=pts_in_doubt,
        missing_share=max(0.0, 1.0 - seconds / declared) if declared > 0 else 0.0,
    )
