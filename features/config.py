"""Defines the settings of the extractors and the limits for one media file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

VisualBlock = Literal["motion", "rhythm", "cuts", "colour", "light", "sharpness"]
SoundBlock = Literal["network", "log_mel", "timbre", "brightness", "rhythm", "tempo", "harmony"]


class Limits(BaseModel):
    """Limits for the content and the decoding of one media file; a file above one is rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    bytes: int = Field(default=2 << 30, description="largest file, in bytes", gt=0)
    seconds: float = Field(
        default=1200.0, description="longest video or audio stream, in seconds", gt=0
    )
    pixels: int = Field(
        default=4096 * 2304, description="largest decoded frame, in pixels (width x height)", gt=0
    )
    frames: int = Field(default=72_000, description="most frames in a video stream", gt=0)
    streams: int = Field(default=16, description="most streams in a container", gt=0)
    decoded_bytes: int = Field(
        default=200 << 30, description="most bytes that one file may decode to", gt=0
    )
    truncated_share: float = Field(
        default=0.1,
        description="share of the declared length that may be missing or damaged",
        ge=0,
        le=1,
    )
    memory: int = Field(
        default=2 << 30,
        description="memory that decoding one file may add to a worker, in bytes",
        gt=0,
    )
    cpu_seconds: float = Field(default=120.0, description="CPU time for one file, in seconds", gt=0)
    wall_seconds: float = Field(
        default=300.0, description="wall time for one file, in seconds", gt=0
    )
    open_files: int = Field(default=64, description="most files that a worker may have open", ge=32)


class PictureEncoder(BaseModel):
    """An ONNX network that embeds one frame.

    Its first input is float32, [N, 3, size, size] or [N, size, size, 3] (see ``layout``). Its first
    output is float32 [N, dim] or, with ``pooling = "mean"``, a map with the same order of axes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(description="name of the network, part of the extractor's name", min_length=1)
    path: Path = Field(description="path of the .onnx file")
    sha256: str = Field(description="sha256 of that file", pattern="^[0-9a-f]{64}$")
    dim: int = Field(description="dimension of the embedding", gt=0)
    size: int = Field(default=224, description="width and height of the input, in pixels", ge=8)
    mean: tuple[float, float, float] = Field(
        default=(0.485, 0.456, 0.406),
        description="mean per channel (R, G, B), for values from 0 to 1",
    )
    std: tuple[float, float, float] = Field(
        default=(0.229, 0.224, 0.225),
        description="standard deviation per channel (R, G, B), for values from 0 to 1",
    )
    layout: Literal["nchw", "nhwc"] = Field(
        default="nchw", description="order of the axes of input and map"
    )
    pooling: Literal["none", "mean"] = Field(
        default="none",
        description="none: the output is [N, dim]; mean: average the map over height and width",
    )


class SoundEncoder(BaseModel):
    """An ONNX network that embeds patches of a log-mel spectrogram.

    Its first input is float32 [N, 1, frames, n_mels], or [N, frames, n_mels] without
    ``channel_axis``. Its first output is float32 [N, dim]. The sound is scaled to an RMS of 0.1
    first. The defaults are those of VGGish (Hershey et al., ICASSP 2017).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(description="name of the network, part of the extractor's name", min_length=1)
    path: Path = Field(description="path of the .onnx file")
    sha256: str = Field(description="sha256 of that file", pattern="^[0-9a-f]{64}$")
    dim: int = Field(description="dimension of the embedding", gt=0)
    sample_rate: int = Field(default=16_000, description="sample rate of the input, in Hz", gt=0)
    window: int = Field(default=400, description="length of the Hann window, in samples", gt=0)
    n_fft: int = Field(default=512, description="length of the Fourier transform, in samples", gt=0)
    hop: int = Field(default=160, description="step between frames, in samples", gt=0)
    n_mels: int = Field(default=64, description="mel bands", gt=0)
    fmin: float = Field(default=125.0, description="lower edge of the mel bands, in Hz", ge=0)
    fmax: float = Field(default=7500.0, description="upper edge of the mel bands, in Hz", gt=0)
    mel: Literal["htk", "slaney"] = Field(
        default="htk",
        description="mel filters: htk (peak of 1) or slaney (area of 1, librosa's default)",
    )
    power: Literal[1, 2] = Field(
        default=1, description="1: bands sum magnitudes; 2: bands sum powers"
    )
    masked: bool = Field(
        default=False,
        description="whether inaudible sound is masked first, as for the statistics",
    )
    log_scale: float = Field(
        default=1.0, description="factor applied to a band before the natural logarithm", gt=0
    )
    log_offset: float = Field(
        default=0.01, description="value added to the scaled band before the logarithm", gt=0
    )
    frames: int = Field(default=96, description="frames per patch", gt=0)
    channel_axis: bool = Field(
        default=True, description="whether the input has a channel axis of length 1"
    )

    @model_validator(mode="after")
    def _check_bands_and_windows(self) -> SoundEncoder:
        if not self.fmin < self.fmax <= self.sample_rate / 2:
            raise ValueError("fmin < fmax <= sample_rate / 2 must hold")
        if not self.hop <= self.window <= self.n_fft:
            raise ValueError("hop <= window <= n_fft must hold")
        return self


class VisualConfig(BaseModel):
    """Settings of the visual extractor."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    frames: int = Field(
        default=16,
        description="frames embedded per clip, at the centres of as many equal parts",
        gt=0,
    )
    encoder: PictureEncoder | None = Field(
        default=None,
        description="network that embeds the frames; none: the packaged EfficientNet-Lite0",
    )
    blocks: tuple[VisualBlock, ...] = Field(
        default=("motion", "rhythm", "colour", "light", "sharpness"),
        description="measurements by OpenCV that are appended to the network's embedding",
    )

    @field_validator("blocks")
    @classmethod
    def _check_blocks(cls, blocks: tuple[str, ...]) -> tuple[str, ...]:
        return _no_block_twice(blocks)


class AudioConfig(BaseModel):
    """Settings of the sound extractor."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sample_rate: int = Field(default=22_050, description="sample rate of the analysis, in Hz", gt=0)
    n_fft: int = Field(
        default=2048, description="length of the Fourier transform, in samples", gt=0
    )
    hop: int = Field(default=512, description="step between frames, in samples", gt=0)
    n_mels: int = Field(default=96, description="mel bands of the spectrogram", gt=0)
    max_seconds: float = Field(
        default=180.0, description="seconds analysed per track, from its start", gt=0
    )
    blocks: tuple[SoundBlock, ...] = Field(
        default=("network", "timbre", "rhythm", "harmony"),
        description="parts of the embedding: the network's mean output and groups of statistics",
        min_length=1,
    )
    patches: int = Field(
        default=16, description="most patches per track that the network embeds", gt=0
    )
    encoder: SoundEncoder | None = Field(
        default=None, description="network of the block `network`; none: the packaged MusiCNN"
    )

    @field_validator("blocks")
    @classmethod
    def _check_blocks(cls, blocks: tuple[str, ...]) -> tuple[str, ...]:
        return _no_block_twice(blocks)

    @model_validator(mode="after")
    def _check_hop(self) -> AudioConfig:
        if self.hop > self.n_fft:
            raise ValueError("hop is larger than n_fft: sound between two frames would be skipped")
        return self

    @model_validator(mode="after")
    def _check_encoder_is_used(self) -> AudioConfig:
        if self.encoder is not None and "network" not in self.blocks:
            raise ValueError('audio has an encoder, but "network" is not among its blocks')
        return self


def _no_block_twice(blocks: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({block for block in blocks if blocks.count(block) > 1})
    if twice:
        raise ValueError(f"named twice: {', '.join(twice)}")
    return blocks
