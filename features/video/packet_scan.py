"""Reads the timeline of a video stream from its packets, without decoding a frame."""

from __future__ import annotations

import av
import av.error

from features.config import Limits
from features.container.media_file import Demuxer
from features.container.truncation import declared_seconds
from features.errors import MediaError, Reason
from features.video import bitstream
from features.video.keyframes import RandomAccessDetector
from features.video.timeline import Timeline, build_timeline, seconds_per_tick

# Decoders that obey a change of skip_frame at any packet. (libdav1d reads it only when it
# opens; FFmpeg's VP9 decoder ignores it; a skipped VP8 frame takes its segment map with it.)
_SKIPS_FRAMES = {"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"}
# Containers that store decoding times (DTS) but no presentation times (PTS).
_WITHOUT_PTS = {"avi", "asf"}


def lacks_pts(format_name: str, stream: av.VideoStream) -> bool:
    """Return whether frames are reordered in a container that stores no presentation times."""
    return format_name in _WITHOUT_PTS and stream.codec_context.reorder_depth > 0


def scan_packets(demuxer: Demuxer, stream: av.VideoStream, limits: Limits) -> Timeline | None:
    """Read all packets of a stream; return None if they do not give reliable times.

    Raises:
        MediaError: too_long, or undecodable for times that no file has.
    """
    if lacks_pts(demuxer.format_name, stream):
        return None
    pts: list[int] = []
    durations: list[int] = []
    hidden: list[bool] = []
    random_access: list[bool] = []
    context = stream.codec_context
    is_random_access = RandomAccessDetector(context)
    can_skip = context.name in _SKIPS_FRAMES
    last_dts: int | None = None
    try:
        for packet in demuxer.packets(stream):
            if packet.size == 0:
                continue
            if packet.pts is None or packet.is_corrupt:
                return None
            if last_dts is not None and packet.dts is not None and packet.dts < last_dts:
                # A second recording starts, or a part is repeated.
                return None
            last_dts = packet.dts
            if can_skip and context.name == "hevc":
                # FFmpeg counts a frame of a lower layer as unreferenced although higher
                # layers refer to it.
                can_skip = bitstream.temporal_layer(bytes(packet), context.extradata) == 0
            pts.append(packet.pts)
            random_access.append(is_random_access(packet))
            hidden.append(packet.is_discard)
            durations.append(packet.duration or 0)
            if len(pts) > limits.frames:
                raise MediaError(Reason.TOO_LONG, f"over {limits.frames} frames (limits.frames)")
    except av.error.FFmpegError:
        return None
    shown = [time for time, unseen in zip(pts, hidden, strict=True) if not unseen]
    if not shown or len(set(shown)) < len(shown):
        return None
    return build_timeline(
        pts,
        durations,
        seconds_per_tick(stream),
        declared_seconds(stream),
        limits,
        random_access=random_access,
        hidden=hidden,
        can_skip=can_skip,
        pts_in_doubt=context.reorder_depth > 0 and pts == sorted(pts),
    )
