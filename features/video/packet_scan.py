"""What the packets of a video stream tell without decoding one."""

from __future__ import annotations

import av
import av.error

from features.config import Limits
from features.container.media_file import read_packets
from features.container.truncation import promised_seconds
from features.errors import MediaError, Reason
from features.video import bitstream
from features.video.keyframes import CleanStarts
from features.video.timeline import Timeline, build_timeline, tick_seconds

# Decoders that take the order to leave out frames to which no other refers at any time.
# (libdav1d takes it once, when it opens; ffmpeg's VP9 decoder does not know it; a VP8 frame
# that is left out takes its map of segments with it.)
_DISCARDING = {"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"}
# Containers that store the order of decoding alone.
_WITHOUT_PTS = {"avi", "asf"}


def lacks_pts(container: av.container.InputContainer, stream: av.VideoStream) -> bool:
    """Return whether frames are reordered in a container that stores no presentation times."""
    return container.format.name in _WITHOUT_PTS and stream.codec_context.reorder_depth > 0


def scan_packets(
    container: av.container.InputContainer, stream: av.VideoStream, limits: Limits
) -> Timeline | None:
    """Read the packets of a stream; return None where they do not tell the times.

    Raises:
        MediaError: too_long.
    """
    pts: list[int] = []
    clean: list[bool] = []
    hidden: list[bool] = []
    durations: list[int] = []
    if lacks_pts(container, stream):
        return None
    context = stream.codec_context
    is_clean = CleanStarts(context)
    discarding = context.name in _DISCARDING
    last_dts: int | None = None
    try:
        for packet in read_packets(container, stream):
            if packet.size == 0:
                continue
            if packet.pts is None or packet.is_corrupt:
                return None
            if last_dts is not None and packet.dts is not None and packet.dts < last_dts:
                # Another recording begins, or a part comes once more.
                return None
            last_dts = packet.dts
            if discarding and context.name == "hevc":
                # A frame of a lower layer counts as unreferenced though higher layers use it.
                discarding = bitstream.temporal_layer(bytes(packet), context.extradata) == 0
            pts.append(packet.pts)
            clean.append(is_clean(packet))
            hidden.append(packet.is_discard)
            durations.append(packet.duration or 0)
            if len(pts) > limits.frames:
                raise MediaError(Reason.TOO_LONG, f"over {limits.frames} frames (limits.frames)")
    except av.error.FFmpegError:
        return None
    shown = [ticks for ticks, unseen in zip(pts, hidden, strict=True) if not unseen]
    if not shown or len(set(shown)) < len(shown):
        return None
    return build_timeline(
        pts,
        durations,
        tick_seconds(stream),
        promised_seconds(stream),
        limits,
        clean=clean,
        hidden=hidden,
        discarding=discarding,
        suspect=context.reorder_depth > 0 and pts == sorted(pts),
    )
