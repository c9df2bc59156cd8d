"""Writes streams that no muxer writes by itself, from encoded packets."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.packet import PacketSideData

from tests.helpers.media_kinds import HEIGHT, RATE, WIDTH, X264, add_sound, draw_frame

# Puts parameters into the header instead of each keyframe (AV_CODEC_FLAG_GLOBAL_HEADER).
_GLOBAL_HEADER = 1 << 22
_NEW_EXTRADATA = 1
_VOP, _USER_DATA = b"\0\0\1\xb6", b"\0\0\1\xb2"

# Seconds; see write_burst.
BURST = 2.0


def _encode(
    context: av.VideoCodecContext, size: tuple[int, int], numbers: range
) -> list[av.Packet]:
    packets = []
    for number in numbers:
        frame = av.VideoFrame.from_ndarray(draw_frame(number, size), "rgb24")
        frame.pts, frame.time_base = number, Fraction(1, RATE)
        packets += context.encode(frame.reformat(format="yuv420p"))
    return [*packets, *context.encode(None)]


def write_two_sizes(path: Path) -> Path:
    """Write two GOPs of one size, then two of another whose parameters come only once."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=RATE, options=X264)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        second = av.CodecContext.create("libx264", "w")
        second.width, second.height, second.pix_fmt = 96, 64, "yuv420p"
        second.time_base, second.options = Fraction(1, RATE), X264
        for context in (stream.codec_context, second):
            context.gop_size, context.max_b_frames = 12, 0
            context.flags |= _GLOBAL_HEADER
        packets = _encode(stream.codec_context, (WIDTH, HEIGHT), range(24))
        others = _encode(second, (96, 64), range(24, 48))
        others[0] = _with_parameters(others[0], bytes(second.extradata or b""), path.suffix)
        for packet in [*packets, *others]:
            packet.stream = stream
            output.mux(packet)
    return path


def _with_parameters(packet: av.Packet, parameters: bytes, suffix: str) -> av.Packet:
    if suffix == ".flv":
        # FLV has a tag of its own for them.
        side_data = PacketSideData(_NEW_EXTRADATA, len(parameters))
        side_data.update(parameters)
        packet.set_sidedata(side_data)
        return packet
    whole = av.Packet(parameters + bytes(packet))
    whole.pts, whole.dts, whole.time_base = packet.pts, packet.dts, packet.time_base
    whole.is_keyframe = True
    return whole


def write_packed(path: Path) -> Path:
    """Write MPEG-4 as DivX did: each B-frame shares a packet, and an empty frame follows."""
    context = av.CodecContext.create("mpeg4", "w")
    context.width, context.height, context.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    context.time_base, context.framerate = Fraction(1, RATE), Fraction(RATE, 1)
    context.gop_size, context.max_b_frames = 24, 1
    # No scene cuts by the encoder, so that every other frame is a B-frame.
    context.options = {"qscale": "2", "sc_threshold": "1000000000", "b_strategy": "0"}
    left = _encode(context, (WIDTH, HEIGHT), range(60))
    chunks: list[tuple[bytes, bool]] = []
    while left:
        packet = left.pop(0)
        data, keyframe = bytes(packet), packet.is_keyframe
        if keyframe:
            at = data.index(_VOP)
            data = data[:at] + _USER_DATA + b"DivX503b1393p" + data[at:]
        assert packet.pts is not None
        if left and left[0].pts is not None and left[0].pts < packet.pts:
            chunks += [(data + bytes(left.pop(0)), keyframe), (_VOP + b"\x50\0\0", False)]
        else:
            chunks.append((data, keyframe))
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number, (data, keyframe) in enumerate(chunks):
            packet = av.Packet(data)
            packet.pts = packet.dts = number
            packet.time_base, packet.is_keyframe = Fraction(1, RATE), keyframe
            packet.stream = stream
            output.mux(packet)
    return path


def write_burst(path: Path, video_start: float, audio_start: float, seconds: float = 5.0) -> Path:
    """Write a video that is silent but for a burst of 0.25 s, BURST seconds into its audio.

    Args:
        path: file to write.
        video_start: seconds on the file's clock.
        audio_start: seconds on the file's clock.
        seconds: duration of both streams.
    """
    samples = np.zeros((2, round(seconds * 48_000)), np.float32)
    loud = slice(round(BURST * 48_000), round((BURST + 0.25) * 48_000))
    samples[:, loud] = 0.5 * np.sin(np.arange(12_000) / 10)
    with av.open(str(path), "w", container_options={"avoid_negative_ts": "disabled"}) as output:
        stream = output.add_stream("libx264", rate=RATE, options=X264)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound = output.add_stream("aac", rate=48_000, layout="stereo")
        for number in range(round(seconds * RATE)):
            frame = av.VideoFrame.from_ndarray(draw_frame(number), "rgb24")
            frame.pts, frame.time_base = number + round(video_start * RATE), Fraction(1, RATE)
            output.mux(stream.encode(frame.reformat(format="yuv420p")))
        output.mux(stream.encode(None))
        add_sound(output, sound, samples, audio_start)
    return path
