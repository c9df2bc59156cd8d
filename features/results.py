"""What extraction returns: small records that check their shapes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


class ResultError(ValueError):
    """A result is not what its kind promises."""


def _check(name: str, array: npt.NDArray[np.generic], dtype: type, ndim: int) -> None:
    if array.dtype != np.dtype(dtype) or array.ndim != ndim:
        raise ResultError(
            f"{name} must be {np.dtype(dtype)} with {ndim} axes, "
            f"got {array.dtype} with shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ResultError(f"{name} holds values that are not finite (shape {array.shape})")


def _check_number(name: str, value: float) -> None:
    # Whole numbers go to columns of 32 or 64 bits; sizes of files are the largest.
    if not isinstance(value, int | float) or not 0 <= value < 1 << 62:
        raise ResultError(f"{name} is {value!r:.50}, no number that can be")


@dataclass(frozen=True)
class MediaInfo:
    """What a probe found, as seen in the packets and a decoded frame, not in headers.

    Attributes:
        content_hash: sha256 of the file, 64 hexadecimal digits.
        bytes: size of the file.
        duration: seconds of the longer of picture and sound.
        paired: first and last second, from the first frame, between which there are both
            picture and sound; without one of them, or where they do not meet, those of the
            other, or of the picture.
        width: upright width of the picture in pixels, 0 without picture.
        height: upright height of the picture in pixels, 0 without picture.
        fps: mean frames per second, 0 without picture.
        has_video: a moving picture was decoded.
        has_audio: sound was decoded.
        container: name of the demuxer.
        video_codec: name of the picture's codec, empty without picture.
        audio_codec: name of the sound's codec, empty without sound.
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
                raise ResultError(f"{name} is {getattr(self, name)!r:.50}")


@dataclass(frozen=True, repr=False)
class VisualFeatures:
    """The picture of one clip or segment.

    Attributes:
        embedding: float32 [Dv].
        frame_times: float64 [F], seconds from the first frame of the file.
        frame_embeddings: float16 [F, E], the network's embedding per frame.
        decoder: what decoded it: ``pyav``, ``pyav-full`` or ``opencv``.
        origin: seconds on the file's clock at which its first frame is shown.
    """

    embedding: npt.NDArray[np.float32]
    frame_times: npt.NDArray[np.float64]
    frame_embeddings: npt.NDArray[np.float16]
    decoder: str
    origin: float

    def __post_init__(self) -> None:
        _check("embedding", self.embedding, np.float32, 1)
        _check("frame_times", self.frame_times, np.float64, 1)
        _check("origin", np.array([self.origin], np.float64), np.float64, 1)
        _check("frame_embeddings", self.frame_embeddings, np.float16, 2)
        if len(self.frame_times) != len(self.frame_embeddings):
            raise ResultError(
                f"{len(self.frame_times)} frame_times for "
                f"{len(self.frame_embeddings)} frame_embeddings"
            )

    def __repr__(self) -> str:
        return (
            f"VisualFeatures(embedding={self.embedding.shape}, "
            f"frame_embeddings={self.frame_embeddings.shape}, decoder={self.decoder!r})"
        )


@dataclass(frozen=True, repr=False)
class AudioFeatures:
    """The sound of one track or segment.

    Attributes:
        embedding: float32 [Dm].
        mel: float16 [bands, T], log-mel spectrogram in dB below its own maximum.
        decoder: what decoded it: ``pyav`` or ``soundfile``.
    """

    embedding: npt.NDArray[np.float32]
    mel: npt.NDArray[np.float16]
    decoder: str

    def __post_init__(self) -> None:
        _check("embedding", self.embedding, np.float32, 1)
        _check("mel", self.mel, np.float16, 2)

    def __repr__(self) -> str:
        return (
            f"AudioFeatures(embedding={self.embedding.shape}, mel={self.mel.shape}, "
            f"decoder={self.decoder!r})"
        )


@dataclass(frozen=True)
class ClipFeatures:
    """The features of one file.

    Attributes:
        visual: one entry per clip or segment; empty for music.
        audio: one entry per track or segment; empty for a plain video, and for a music
            video without sound.
        cpu_seconds: CPU time the worker spent on the file.
    """

    visual: tuple[VisualFeatures, ...]
    audio: tuple[AudioFeatures, ...]
    cpu_seconds: float

    def __post_init__(self) -> None:
        _check_number("cpu_seconds", self.cpu_seconds)
