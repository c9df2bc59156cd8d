"""Writes frames and sound as media files with the same bytes on every run.

Encoders run on one thread with FFmpeg's bit-exact flags, and files have no creation time. Rendered
worlds can therefore be compared by the hashes of their files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.codec.context
import numpy as np
from numpy.typing import NDArray

from models.arrays import Float32Array, UInt8Array

# Sample rate in Hz of all rendered sound. Opus, AAC and MP3 support it.
SAMPLE_RATE = 24_000

_BLOCK = 4096
_EXACT = {"fflags": "+bitexact"}
_BIT_EXACT = av.codec.context.Flags.bitexact.value


@dataclass(frozen=True)
class Codec:
    """An FFmpeg encoder, its options and its sample or pixel format."""

    name: str
    options: dict[str, str]
    format: str


_AAC = Codec("aac", {"b": "96k", "aac_coder": "fast"}, "fltp")
_OPUS = Codec("libopus", {"b": "64k", "compression_level": "3"}, "flt")
_H264 = Codec("libx264", {"preset": "superfast", "crf": "24", "g": "60", "threads": "1"}, "yuv420p")
_VP9 = Codec(
    "libvpx-vp9",
    {"deadline": "realtime", "cpu-used": "8", "b": "300k", "g": "60", "threads": "1"},
    "yuv420p",
)

# File extension of a music file -> FFmpeg container and audio codec.
SOUND_FORMATS: dict[str, tuple[str, Codec]] = {
    "mp3": ("mp3", Codec("libmp3lame", {"b": "96k"}, "fltp")),
    "ogg": ("ogg", Codec("vorbis", {"strict": "-2"}, "fltp")),
    "m4a": ("ipod", _AAC),
    "flac": ("flac", Codec("flac", {}, "s16")),
    "wav": ("wav", Codec("pcm_s16le", {}, "s16")),
}

# File extension of a video file -> FFmpeg container, video codec and audio codec.
PICTURE_FORMATS: dict[str, tuple[str, Codec, Codec]] = {
    "mp4": ("mp4", _H264, _AAC),
    "webm": ("webm", _VP9, _OPUS),
}


def write_sound(path: Path, sound: Float32Array) -> None:
    """Write a music file; the extension of `path` selects the format.

    Args:
        path: file to write, with an extension of `SOUND_FORMATS`.
        sound: float32 [2, T], stereo samples in [-1, 1] at `SAMPLE_RATE`.

    Raises:
        KeyError: the extension is not one of `SOUND_FORMATS`.
    """
    container_name, codec = SOUND_FORMATS[path.suffix[1:]]
    with av.open(str(path), "w", format=container_name, options=_EXACT) as out:
        stream = _add_sound_stream(out, codec)
        _encode_sound(out, stream, codec, sound)


def write_video(path: Path, frames: Iterable[UInt8Array], fps: int, sound: Float32Array) -> None:
    """Write a video file with sound; the extension of `path` selects the format.

    Args:
        path: file to write, with an extension of `PICTURE_FORMATS`.
        frames: at least one frame uint8 [H, W, 3] in RGB; H and W are even and the same for all.
        fps: frames per second.
        sound: float32 [2, T], stereo samples in [-1, 1] at `SAMPLE_RATE`.

    Raises:
        KeyError: the extension is not one of `PICTURE_FORMATS`.
        ValueError: there are no frames.
    """
    container_name, picture_codec, sound_codec = PICTURE_FORMATS[path.suffix[1:]]
    # Write the index of an MP4 first, as upload services do: a truncated file can then be decoded.
    layout = {"movflags": "+faststart"} if container_name == "mp4" else {}
    remaining = iter(frames)
    first = next(remaining, None)
    if first is None:
        raise ValueError(f"{path}: a video needs at least one frame")
    with av.open(str(path), "w", format=container_name, options=_EXACT | layout) as out:
        pictures: Any = out.add_stream(picture_codec.name, rate=fps, options=picture_codec.options)
        pictures.height, pictures.width = first.shape[:2]
        pictures.pix_fmt = picture_codec.format
        pictures.codec_context.time_base = Fraction(1, fps)
        _make_exact(pictures)
        sounds = _add_sound_stream(out, sound_codec)
        _encode_picture(out, pictures, first, 0)
        for index, frame in enumerate(remaining, start=1):
            _encode_picture(out, pictures, frame, index)
        out.mux(pictures.encode(None))
        _encode_sound(out, sounds, sound_codec, sound)


def _make_exact(stream: Any) -> None:
    stream.codec_context.thread_count = 1
    stream.codec_context.flags |= _BIT_EXACT


def _add_sound_stream(out: Any, codec: Codec) -> Any:
    stream = out.add_stream(codec.name, rate=SAMPLE_RATE, layout="stereo", options=codec.options)
    stream.codec_context.format = codec.format
    _make_exact(stream)
    return stream


def _encode_picture(out: Any, stream: Any, frame: UInt8Array, index: int) -> None:
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    picture.pts = index
    picture.time_base = stream.codec_context.time_base
    out.mux(stream.encode(picture))


def _encode_sound(out: Any, stream: Any, codec: Codec, sound: Float32Array) -> None:
    for start in range(0, sound.shape[1], _BLOCK):
        block = _samples(sound[:, start : start + _BLOCK], codec.format)
        frame = av.AudioFrame.from_ndarray(block, format=codec.format, layout="stereo")
        frame.sample_rate = SAMPLE_RATE
        frame.time_base = Fraction(1, SAMPLE_RATE)
        frame.pts = start
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def _samples(sound: Float32Array, sample_format: str) -> NDArray[Any]:
    clipped = np.clip(sound, -1.0, 1.0)
    if sample_format == "fltp":
        return np.ascontiguousarray(clipped)
    interleaved = np.ascontiguousarray(clipped.T).reshape(1, -1)
    if sample_format == "flt":
        return interleaved
    return np.round(interleaved * 32767.0).astype(np.int16)
