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
from pathlib import Path

import av
import av.error
import numpy as np

from features.config import Limits
from features.container import open_media, picture_stream
from features.errors import MediaError, Reason
from features.timeline import Timeline, build, scan, tick_seconds

log = logging.getLogger(__name__)

Receive = Callable[[int, av.VideoFrame], None]


@dataclass
class Budget:
    """Counts what decoding produces and stops it at the limits."""

    limits: Limits
    frames: int = 0
    bytes: int = 0
    errors: int = 0

    def count(self, frame: av.VideoFrame) -> None:
        """Add a decoded frame.

        Raises:
            MediaError: too_many_pixels, too_long or too_large.
        """
        pixels = frame.width * frame.height
        if pixels > self.limits.pixels:
            raise MediaError(
                Reason.TOO_MANY_PIXELS,
                f"a frame of {frame.width} x {frame.height}, "
                f"{self.limits.pixels} pixels are allowed (limits.pixels)",
            )
        self.frames += 1
        self.bytes += pixels * 3 // 2
        if self.frames > self.limits.frames:
            raise MediaError(Reason.TOO_LONG, f"over {self.limits.frames} frames (limits.frames)")
        if self.bytes > self.limits.decoded_bytes:
            raise MediaError(
                Reason.TOO_LARGE,
                f"over {self.limits.decoded_bytes} decoded bytes (limits.decoded_bytes)",
            )


def read_timeline(path: Path, limits: Limits) -> Timeline:
    """Return when each frame is shown, from the packets or else by decoding all of them.

    Raises:
        MediaError: no_video, undecodable, too_long or a reason of ``open_media``.
    """
    with open_media(path, limits) as container:
        stream = _require_picture(container, limits)
        timeline = scan(container, stream, limits)
    return timeline or decoded_timeline(path, limits)


def decoded_timeline(path: Path, limits: Limits) -> Timeline:
    """Return the times of the frames that a full decode shows.

    Raises:
        MediaError: undecodable or one of the limits.
    """
    pts: list[int] = []
    keyframe: list[bool] = []
    durations: list[int] = []
    with open_media(path, limits) as container:
        stream = _require_picture(container, limits)
        for ticks, frame in _decode_all(container, stream, Budget(limits)):
            if pts and ticks <= pts[-1]:
                continue
            pts.append(ticks)
            keyframe.append(frame.key_frame)
            durations.append(frame.duration or 0)
        if not pts:
            raise MediaError(Reason.UNDECODABLE, "no frame of the picture can be decoded")
        return build(pts, keyframe, durations, stream, limits, decoded=True)


def decode_frames(
    path: Path, timeline: Timeline, wanted: Collection[int], receive: Receive, limits: Limits
) -> bool:
    """Call ``receive(pts, frame)`` once for each wanted frame, in order of decoding.

    Returns:
        Whether packets were skipped; False after a full decode.

    Raises:
        MediaError: undecodable, truncated or one of the limits.
    """
    left = set(wanted)
    if not timeline.decoded:
        with open_media(path, limits) as container:
            stream = _require_picture(container, limits)
            _decode_wanted(container, stream, timeline, left, receive, Budget(limits))
    if not left:
        return not timeline.decoded
    log.debug("%s: %d frames need a full decode", path.name, len(left))
    with open_media(path, limits) as container:
        stream = _require_picture(container, limits)
        for ticks, frame in _decode_all(container, stream, Budget(limits)):
            if ticks in left:
                left.discard(ticks)
                receive(ticks, frame)
            if not left:
                return False
    raise MediaError(
        Reason.UNDECODABLE, f"{len(left)} of {len(set(wanted))} sampled frames cannot be decoded"
    )


def _require_picture(
    container: av.container.InputContainer, limits: Limits
) -> av.video.stream.VideoStream:
    stream = picture_stream(container)
    if stream is None:
        raise MediaError(Reason.NO_VIDEO, "no stream of moving pictures")
    if stream.codec_context is None:
        raise MediaError(Reason.UNDECODABLE, "no decoder for the picture's codec")
    context = stream.codec_context
    # The decoder itself refuses larger frames before it allocates them.
    context.options = {"max_pixels": str(max(limits.pixels, 1) * 2)}
    context.thread_count = 1
    return stream


def _decode_all(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream, budget: Budget
) -> Iterator[tuple[int, av.VideoFrame]]:
    rate = stream.average_rate or stream.guessed_rate
    step = max(1, round(1 / (float(rate) * tick_seconds(stream)))) if rate else 1
    ticks = -step
    for packet in container.demux(stream):
        for frame in _decode(packet, budget):
            budget.count(frame)
            ticks = frame.pts if frame.pts is not None else ticks + step
            yield ticks, frame


def _decode(packet: av.Packet[av.VideoStream], budget: Budget) -> list[av.VideoFrame]:
    try:
        return packet.decode()
    except (av.error.EOFError, av.error.BlockingIOError):
        return []
    except (MemoryError, av.error.MemoryError) as error:
        raise MediaError(Reason.OUT_OF_MEMORY, "while decoding a frame") from error
    except av.error.FFmpegError:
        budget.errors += 1
        return []


def _groups(timeline: Timeline) -> list[tuple[int, int]]:
    """Return [start, stop) packets of the groups that can be decoded on their own.

    A keyframe opens a group only when every packet before it is shown before it and every
    packet from it on is shown at or after it; so open groups merge with those before.
    """
    pts = timeline.pts
    before = np.concatenate([[np.iinfo(np.int64).min], np.maximum.accumulate(pts)[:-1]])
    after = np.minimum.accumulate(pts[::-1])[::-1]
    clean = timeline.keyframe & (before < pts) & (after >= pts)
    clean[0] = True
    starts = np.flatnonzero(clean).tolist()
    return list(zip(starts, [*starts[1:], len(pts)], strict=True))


def _decode_wanted(
    container: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
    timeline: Timeline,
    left: set[int],
    receive: Receive,
    budget: Budget,
) -> None:
    """Decode the groups that hold wanted frames; remove from ``left`` what was received."""
    last_needed: dict[int, int] = {}
    for start, stop in _groups(timeline):
        hits = [i for i in range(start, stop) if int(timeline.pts[i]) in left]
        for i in range(start, hits[-1] + 1 if hits else start):
            last_needed[i] = hits[-1]
    context = stream.codec_context

    def take(frames: list[av.VideoFrame]) -> None:
        for frame in frames:
            budget.count(frame)
            if frame.pts in left:
                left.discard(frame.pts)
                receive(frame.pts, frame)

    index = -1
    for packet in container.demux(stream):
        if packet.size == 0 or packet.is_discard:
            continue
        index += 1
        last = last_needed.get(index)
        if last is None:
            continue
        context.skip_frame = "DEFAULT" if packet.pts in left else "NONREF"
        take(_decode(packet, budget))
        if index == last:
            context.skip_frame = "DEFAULT"
            take(context.decode(None))
            context.flush_buffers()
            if not left:
                return
