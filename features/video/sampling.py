"""Decoding exactly the frames that are wanted, and no packet that they do not need.

A group is a run of packets from one keyframe to the next. Groups without a wanted frame
are skipped, a group ends at its last wanted frame, and frames to which no other refers
are not decoded. Each of the three is guarded, so that the frames are bit-equal to those
of a full decode: where the packets do not tell the presentation times, where a keyframe
is no clean start, or where a wanted frame does not come, the whole stream is decoded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path

import av
import av.error

from features.config import Limits
from features.container.budget import Budget
from features.container.media_file import open_media, picture_stream, read_packets
from features.container.truncation import check_missing, promised_seconds
from features.errors import MediaError, Reason
from features.video import opencv_fallback
from features.video.packet_scan import lacks_pts, scan_packets
from features.video.timeline import (
    Timeline,
    build_timeline,
    check_length,
    shown_times,
    tick_seconds,
)

log = logging.getLogger(__name__)

Choose = Callable[[Timeline], Collection[int]]
Receive = Callable[[int, av.VideoFrame], None]


@dataclass(frozen=True)
class Sampled:
    """How frames were read.

    Attributes:
        timeline: the times on which the choice was made.
        decoder: ``pyav`` (only what was needed), ``pyav-full`` or ``opencv``.
    """

    timeline: Timeline
    decoder: str


def sample_frames(path: Path, choose: Choose, receive: Receive, limits: Limits) -> Sampled:
    """Read the frames that ``choose(timeline)`` names by their pts.

    ``receive(pts, frame)`` is called for each of them; after a first attempt that failed
    half-way, once more with the final frame.

    Raises:
        MediaError: no_video, undecodable, truncated, or one of the limits.
    """
    try:
        return _sample_pyav(path, choose, receive, limits)
    except MediaError as error:
        if error.reason is not Reason.UNDECODABLE:
            raise
        try:
            timeline = opencv_fallback.read_timeline(path, limits)
        except MediaError:
            raise error from None
    log.info("%s: PyAV cannot decode it, OpenCV can", path.name)
    opencv_fallback.decode(path, set(choose(timeline)), receive, limits)
    return Sampled(timeline, "opencv")


def _sample_pyav(path: Path, choose: Choose, receive: Receive, limits: Limits) -> Sampled:
    with open_media(path, limits) as container:
        stream = _require_picture(container, limits)
        timeline = scan_packets(container, stream, limits)
    budget = Budget(limits)
    if timeline is not None:
        check_missing(timeline.missing_share, limits)
        if _decode_wanted(path, timeline, set(choose(timeline)), receive, budget):
            return Sampled(timeline, "pyav")
    # What a first attempt produced counts as well: limits are those of the file.
    budget = Budget(limits, bytes=budget.bytes)
    timeline = _decoded_timeline(path, budget)
    check_missing(timeline.missing_share, limits)
    left = set(choose(timeline))
    pts = timeline.pts.tolist()
    budget = Budget(limits, bytes=budget.bytes)
    with open_media(path, limits) as container:
        stream = _require_picture(container, limits)
        for ticks, (_, frame) in zip(pts, _decode_all(container, stream, budget), strict=False):
            if ticks in left:
                left.discard(ticks)
                receive(ticks, frame)
            if not left:
                break
    if left:
        raise MediaError(Reason.UNDECODABLE, "the decoder gives other frames each time")
    return Sampled(timeline, "pyav-full")


def _require_picture(container: av.container.InputContainer, limits: Limits) -> av.VideoStream:
    stream = picture_stream(container)
    if stream is None:
        raise MediaError(Reason.NO_VIDEO, "no stream of moving pictures")
    if stream.codec_context is None:
        raise MediaError(Reason.UNDECODABLE, "no decoder for the picture's codec")
    context = stream.codec_context
    # The decoder refuses larger frames before it allocates them; twice, because the coded
    # size may exceed the shown one.
    context.options = {"max_pixels": str(2 * limits.pixels)}
    context.thread_count = 1
    return stream


def _decoded_timeline(path: Path, budget: Budget) -> Timeline:
    """Return the times of the frames that a full decode shows."""
    times: list[int | None] = []
    durations: list[int] = []
    limits = budget.limits
    with open_media(path, limits) as container:
        stream = _require_picture(container, limits)
        base = tick_seconds(stream)
        first: int | None = None
        for ticks, frame in _decode_all(container, stream, budget):
            times.append(ticks)
            durations.append(frame.duration or 0)
            if ticks is not None:
                first = ticks if first is None else first
                check_length((ticks - first) * base, limits)
        if not times:
            context = stream.codec_context
            budget.check_size(context.width, context.height)
            raise MediaError(Reason.UNDECODABLE, "no frame of the picture can be decoded")
        budget.check_errors("picture")
        rate = stream.average_rate or stream.guessed_rate
        step = max(1.0, 1 / (float(rate) * base)) if rate else 1.0
        return build_timeline(
            shown_times(times, step), durations, base, promised_seconds(stream), limits
        )


def _decode_all(
    container: av.container.InputContainer, stream: av.VideoStream, budget: Budget
) -> Iterator[tuple[int | None, av.VideoFrame]]:
    """Yield all frames in the order in which they are shown, with the ticks that are known."""
    by_order = lacks_pts(container, stream)
    decode_times: list[int] = []
    try:
        for packet in read_packets(container, stream):
            if by_order and packet.size and packet.dts is not None:
                heappush(decode_times, packet.dts)
            for frame in _decode(stream, packet, budget):
                yield heappop(decode_times) if decode_times else frame.pts, frame
    except av.error.FFmpegError:
        # The demuxer stops at what it cannot read; the frames so far are held against what
        # was promised.
        log.debug("the demuxer stopped after %d packets", budget.packets)


def _decode(
    stream: av.VideoStream, packet: av.Packet[av.VideoStream] | None, budget: Budget
) -> list[av.VideoFrame]:
    """Decode a packet, or with None what the decoder still holds; count what comes."""
    budget.packets += packet is not None
    try:
        frames = stream.codec_context.decode(packet)
    except av.error.EOFError:
        return []
    except (MemoryError, av.error.MemoryError) as error:
        raise MediaError(Reason.OUT_OF_MEMORY, "while decoding a frame") from error
    except av.error.FFmpegError:
        budget.errors += 1
        return []
    for frame in frames:
        bits = frame.format.padded_bits_per_pixel
        budget.count(frame.width, frame.height, bits, corrupt=frame.is_corrupt)
    return frames


def _decode_wanted(
    path: Path, timeline: Timeline, left: set[int], receive: Receive, budget: Budget
) -> bool:
    """Decode the groups that hold wanted frames; return whether all came undamaged."""
    last_of, starts = _needed(timeline, left)
    came: set[int] = set()
    kept = left | starts
    last_shown: int | None = None
    with open_media(path, budget.limits) as container:
        stream = _require_picture(container, budget.limits)
        context = stream.codec_context

        def decode(packet: av.Packet[av.VideoStream] | None) -> None:
            nonlocal last_shown
            for frame in _decode(stream, packet, budget):
                if last_shown is not None and frame.pts is not None and frame.pts <= last_shown:
                    # Its times are not those at which it is shown.
                    budget.errors += 1
                last_shown = frame.pts
                if frame.pts in starts:
                    came.add(frame.pts)
                    budget.errors += not (frame.key_frame or frame.pts == timeline.start)
                if frame.pts in left:
                    left.discard(frame.pts)
                    receive(frame.pts, frame)

        index = -1
        for packet in read_packets(container, stream):
            if packet.size == 0:
                continue
            index += 1
            last = last_of.get(index)
            if last is None:
                continue
            if timeline.discarding:
                context.skip_frame = "DEFAULT" if packet.pts in kept else "NONREF"
            decode(packet)
            if index == last:
                decode(None)
                context.flush_buffers()
                if not left and came == starts:
                    break
    return not left and came == starts and budget.errors == 0


def _needed(timeline: Timeline, wanted: set[int]) -> tuple[dict[int, int], set[int]]:
    """Return the packets to decode, each with the last one that its group needs.

    And the pts of frames that must come first: that of each group, which must be a
    keyframe, and of the whole timeline, which might begin with frames that never come.
    """
    needed: dict[int, int] = {}
    starts = {timeline.start}
    pts, hidden = timeline.pts.tolist(), timeline.hidden.tolist()
    for start, stop in timeline.groups():
        hits = [
            i
            for i in range(start, stop)
            if not hidden[i] and (pts[i] in wanted or pts[i] == timeline.start)
        ]
        if hits:
            # Where times are suspect, the next frame shows whether it should have come before.
            last = min(hits[-1] + timeline.suspect, stop - 1)
            needed.update(dict.fromkeys(range(start, last + 1), last))
            if start and not hidden[start]:
                starts.add(pts[start])
    return needed, starts
