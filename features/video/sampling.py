"""Decodes selected frames of a video, and as few other packets as possible.

The unit of work is a closed GOP: the packets from one random access point to the next. GOPs
without a wanted frame are skipped, decoding of a GOP stops at its last wanted frame, and
frames to which no other frame refers are not decoded. The frames are bit-equal to those of a
full decode. Where this cannot be guaranteed, the whole stream is decoded: the packets have no
reliable pts, a keyframe turns out to be none, or a wanted frame does not come.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush

import av
import av.error

from features.config import Limits
from features.container.budget import Budget
from features.container.media_file import Demuxer, MediaFile
from features.container.truncation import check_missing_share, declared_seconds
from features.errors import MediaError, Reason
from features.results import Decoder
from features.video import opencv_fallback
from features.video.packet_scan import lacks_pts, scan_packets
from features.video.timeline import (
    Timeline,
    build_timeline,
    check_duration,
    increasing_pts,
    seconds_per_tick,
)

log = logging.getLogger(__name__)

SelectPts = Callable[[Timeline], Collection[int]]
OnFrame = Callable[[int, av.VideoFrame], None]


@dataclass(frozen=True)
class Sampled:
    """How the frames were decoded.

    Attributes:
        timeline: the timeline from which frames were selected.
        decoder: ``pyav`` (only the needed packets), ``pyav-full`` or ``opencv``.
    """

    timeline: Timeline
    decoder: Decoder


def sample_frames(media: MediaFile, select_pts: SelectPts, on_frame: OnFrame) -> Sampled:
    """Decode the frames of a video whose pts are selected.

    Args:
        media: the file.
        select_pts: returns the pts of the wanted frames of a timeline. Called again with a
            new timeline when a first attempt fails.
        on_frame: called as ``on_frame(pts, frame)`` for each wanted frame; after a failed
            attempt once more, with the final frame.

    Raises:
        MediaError: no_video, undecodable, truncated, or one of the limits.
    """
    try:
        return _sample_pyav(media, select_pts, on_frame)
    except MediaError as error:
        if error.reason is not Reason.UNDECODABLE:
            raise
        try:
            timeline = opencv_fallback.read_timeline(media)
        except MediaError:
            raise error from None
    log.info("%s: decoded with OpenCV, PyAV cannot decode it", media.path.name)
    opencv_fallback.decode(media, set(select_pts(timeline)), on_frame)
    return Sampled(timeline, Decoder.OPENCV)


def _sample_pyav(media: MediaFile, select_pts: SelectPts, on_frame: OnFrame) -> Sampled:
    with media.open() as demuxer:
        timeline = scan_packets(demuxer, _video_stream(demuxer, media.limits), media.limits)
    budget = Budget(media.limits)
    if timeline is not None:
        check_missing_share(timeline.missing_share, media.limits)
        if _decode_wanted(media, timeline, set(select_pts(timeline)), on_frame, budget):
            return Sampled(timeline, Decoder.PYAV)
    timeline = _decode_all_wanted(media, select_pts, on_frame, budget)
    return Sampled(timeline, Decoder.PYAV_FULL)


def _decode_all_wanted(
    media: MediaFile, select_pts: SelectPts, on_frame: OnFrame, budget: Budget
) -> Timeline:
    """Decode the whole stream twice: first for the timeline, then for the wanted frames."""
    # Bytes of failed attempts count as well: the limit is per file.
    budget = Budget(media.limits, bytes=budget.bytes)
    timeline = _decoded_timeline(media, budget)
    check_missing_share(timeline.missing_share, media.limits)
    wanted = set(select_pts(timeline))
    budget = Budget(media.limits, bytes=budget.bytes)
    with media.open() as demuxer:
        frames = _decode_all(demuxer, _video_stream(demuxer, media.limits), budget)
        for pts, (_, frame) in zip(timeline.pts.tolist(), frames, strict=False):
            if pts in wanted:
                wanted.discard(pts)
                on_frame(pts, frame)
            if not wanted:
                break
    if wanted:
        raise MediaError(Reason.UNDECODABLE, "decoding it twice gives different frames")
    return timeline


def _video_stream(demuxer: Demuxer, limits: Limits) -> av.VideoStream:
    stream = demuxer.video_stream
    if stream is None:
        raise MediaError(Reason.NO_VIDEO, "the file has no video stream")
    if stream.codec_context is None:
        raise MediaError(Reason.UNDECODABLE, "there is no decoder for the video codec")
    context = stream.codec_context
    # The decoder refuses larger frames before it allocates them. Twice the limit, because the
    # coded size may exceed the shown size.
    context.options = {"max_pixels": str(2 * limits.pixels)}
    context.thread_count = 1
    return stream


def _decoded_timeline(media: MediaFile, budget: Budget) -> Timeline:
    """Return the timeline of the frames that a full decode gives."""
    found: list[int | None] = []
    durations: list[int] = []
    with media.open() as demuxer:
        stream = _video_stream(demuxer, media.limits)
        base = seconds_per_tick(stream)
        first: int | None = None
        for pts, frame in _decode_all(demuxer, stream, budget):
            found.append(pts)
            durations.append(frame.duration or 0)
            if pts is not None:
                first = pts if first is None else first
                check_duration((pts - first) * base, media.limits)
        if not found:
            context = stream.codec_context
            budget.check_frame_size(context.width, context.height)
            raise MediaError(Reason.UNDECODABLE, "no video frame can be decoded")
        budget.check_errors()
        rate = stream.average_rate or stream.guessed_rate
        step = max(1.0, 1 / (float(rate) * base)) if rate else 1.0
        return build_timeline(
            increasing_pts(found, step), durations, base, declared_seconds(stream), media.limits
        )


def _decode_all(
    demuxer: Demuxer, stream: av.VideoStream, budget: Budget
) -> Iterator[tuple[int | None, av.VideoFrame]]:
    """Yield (pts or None, frame) for all frames in display order."""
    # Reordered frames get the decoding times in ascending order.
    sort_dts = lacks_pts(demuxer.format_name, stream)
    decode_times: list[int] = []
    try:
        for packet in demuxer.packets(stream):
            if sort_dts and packet.size and packet.dts is not None:
                heappush(decode_times, packet.dts)
            for frame in _decode(stream, packet, budget):
                yield heappop(decode_times) if decode_times else frame.pts, frame
    except av.error.FFmpegError:
        # The frames so far are checked against the declared length later.
        log.debug("the demuxer stopped after %d packets", budget.packets)


def _decode(
    stream: av.VideoStream, packet: av.Packet[av.VideoStream] | None, budget: Budget
) -> list[av.VideoFrame]:
    """Decode a packet, or flush the decoder with None, and count the frames."""
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
        budget.add_frame(frame.width, frame.height, bits, corrupt=frame.is_corrupt)
    return frames


def _decode_wanted(
    media: MediaFile, timeline: Timeline, wanted: set[int], on_frame: OnFrame, budget: Budget
) -> bool:
    """Decode the GOPs that hold wanted frames; return whether all came without damage."""
    last_of, gop_starts = _needed_packets(timeline, wanted)
    starts_seen: set[int] = set()
    needed_pts = wanted | gop_starts
    last_pts: int | None = None
    with media.open() as demuxer:
        stream = _video_stream(demuxer, media.limits)
        context = stream.codec_context

        def decode(packet: av.Packet[av.VideoStream] | None) -> None:
            nonlocal last_pts
            for frame in _decode(stream, packet, budget):
                if last_pts is not None and frame.pts is not None and frame.pts <= last_pts:
                    # Frames come in display order, so these pts are not presentation times.
                    budget.errors += 1
                last_pts = frame.pts
                if frame.pts in gop_starts:
                    starts_seen.add(frame.pts)
                    budget.errors += not (frame.key_frame or frame.pts == timeline.start_pts)
                if frame.pts in wanted:
                    wanted.discard(frame.pts)
                    on_frame(frame.pts, frame)

        index = -1
        for packet in demuxer.packets(stream):
            if packet.size == 0:
                continue
            index += 1
            last = last_of.get(index)
            if last is None:
                continue
            if timeline.can_skip:
                context.skip_frame = "DEFAULT" if packet.pts in needed_pts else "NONREF"
            decode(packet)
            if index == last:
                decode(None)
                context.flush_buffers()
                if not wanted and starts_seen == gop_starts:
                    break
    return not wanted and starts_seen == gop_starts and budget.errors == 0


def _needed_packets(timeline: Timeline, wanted: set[int]) -> tuple[dict[int, int], set[int]]:
    """Return what to decode for the wanted frames.

    Returns:
        The indices of the packets to decode, each with the last index to decode in its GOP;
        and the pts of frames that must come: the first of each such GOP, which must be a
        keyframe, and the first of the timeline, which the decoder may fail to give.
    """
    needed: dict[int, int] = {}
    gop_starts = {timeline.start_pts}
    pts, hidden = timeline.pts.tolist(), timeline.hidden.tolist()
    for start, stop in timeline.closed_gops():
        hits = [
            i
            for i in range(start, stop)
            if not hidden[i] and (pts[i] in wanted or pts[i] == timeline.start_pts)
        ]
        if hits:
            # If pts are in doubt, one more frame shows whether it should have come earlier.
            last = min(hits[-1] + timeline.pts_in_doubt, stop - 1)
            needed.update(dict.fromkeys(range(start, last + 1), last))
            if start and not hidden[start]:
                gop_starts.add(pts[start])
    return needed, gop_starts
