"""Defines the results of extraction: small records that check their values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from features.arrays import AnyArray, Float16Array, Float32Array, Float64Array


class ResultError(ValueError):
    """A result has a value that its type does not allow."""


class Decoder(StrEnum):
    """What decoded a file."""

    # PyAV, only the packets that the sampled frames need.
    PYAV = "pyav"
    # PyAV, the whole video stream.
    PYAV_FULL = "pyav-full"
    # OpenCV, where PyAV cannot decode the picture.
    OPENCV = "opencv"
    # libsndfile, where PyAV cannot decode the sound.
    SOUNDFILE = "soundfile"


def _check_array(name: str, array: AnyArray, dtype: type, ndim: int) -> None:
    if array.dtype != np.dtype(dtype) or array.ndim != ndim:
        raise ResultError(
            f"{name} must be {np.dtype(dtype)} with {ndim} axes, "
            f"got {array.dtype} with shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ResultError(f"{name} contains values that are not finite (shape {array.shape})")


def _check_number(name: str, value: float) -> None:
    # The tables' integer columns have at most 64 bits.
    if not isinstance(value, int | float) or not 0 <= value < 1 << 62:
        raise ResultError(f"{name} is {value!r:.50}, expected a number from 0 to 2^62")


@dataclass(frozen=True)
class MediaInfo:
    """What a probe found in the packets and the first decoded frame; headers are not trusted.

    Attributes:
        content_hash: sha256 of the file, 64 hexadecimal digits.
        bytes: size of the file.
        duration: length in seconds of the longer of picture and sound.
        paired: start and end, in seconds from the first frame, of the time that has both picture
            and sound. If they do not overlap, the time of the picture; if there is only one of
            them, the time of that one.
        width: width in pixels after rotation, 0 without a picture.
        height: height in pixels after rotation, 0 without a picture.
        fps: mean frames per second, 0 without a picture.
        has_video: whether a moving picture was decoded.
        has_audio: whether sound was decoded.
        container: name of the demuxer.
        video_codec: name of the video codec, empty without a picture.
        audio_codec: name of the audio codec, empty without sound.
    """

    content_hash: str
    bytes: int
    duration: float
    paired: tuple[float, float]
    width: int
    height: int
    fps: float
    has_video: bool
    has_audio: bool
    container: str
    video_codec: str
    audio_codec: str

    def __post_init__(self) -> None:
        for name in ("bytes", "width", "height", "duration", "fps"):
            _check_number(name, getattr(self, name))
        for moment in self.paired:
            _check_number("paired", moment)
        for name in ("content_hash", "container", "video_codec", "audio_codec"):
            if not isinstance(getattr(self, name), str):
                raise ResultError(f"{name} is {getattr(self, name)!r:.50}, expected text")


@dataclass(frozen=True, repr=False)
class VisualFeatures:
    """Features of the picture of one clip or segment.

    Attributes:
        embedding: float32 [Dv].
        frame_times: float64 [F], seconds from the first frame of the file.
        frame_embeddings: float16 [F, E], the network's embedding of each frame.
        decoder: what decoded the frames.
        origin: time of the file's first frame on the file's own clock, in seconds.
    """

    embedding: Float32Array
    frame_times: Float64Array
    frame_embeddings: Float16Array
    decoder: Decoder
    origin: float

    def __post_init__(self) -> None:
        _check_array("embedding", self.embedding, np.float32, 1)
        _check_array("frame_times", self.frame_times, np.float64, 1)
        _check_array("origin", np.array([self.origin], np.float64), np.float64, 1)
        _check_array("frame_embeddings", self.frame_embeddings, np.float16, 2)
        if len(self.frame_times) != len(self.frame_embeddings):
            raise ResultError(
                f"{len(self.frame_times)} frame_times for "
                f"{len(self.frame_embeddings)} frame_embeddings"
            )

    def __repr__(self) -> str:
        return (
            f"VisualFeatures(embedding={self.embedding.shape}, "
            f"frame_embeddings={self.frame_embeddings.shape}, decoder={str(self.decoder)!r})"
        )


@dataclass(frozen=True, repr=False)
class AudioFeatures:
    """Features of the sound of one track or segment.

    Attributes:
        embedding: float32 [Dm].
        mel: float16 [bands, T], log-mel spectrogram in dB relative to its maximum (-80 to 0).
        decoder: what decoded the sound.
    """

    embedding: Float32Array
    mel: Float16Array
    decoder: Decoder

    def __post_init__(self) -> None:
        _check_array("embedding", self.embedding, np.float32, 1)
        _check_array("mel", self.mel, np.float16, 2)

    def __repr__(self) -> str:
        return (
            f"AudioFeatures(embedding={self.embedding.shape}, mel={self.mel.shape}, "
            f"decoder={str(self.decoder)!r})"
        )


@dataclass(frozen=True)
class ClipFeatures:
    """Features of one file.

    Attributes:
        visual: one entry per clip or segment; empty for a track.
        audio: one entry per track or segment; empty for a plain video and for a music video
            without sound.
        cpu_seconds: CPU time the worker spent on the file.
    """

    visual: tuple[VisualFeatures, ...]
    audio: tuple[AudioFeatures, ...]
    cpu_seconds: float

    def __post_init__(self) -> None:
        _check_number("cpu_seconds", self.cpu_seconds)
