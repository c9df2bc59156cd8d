"""Settings of the extractors and limits of what one media file may cost."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

DynamicsBlock = Literal["motion", "rhythm", "cuts", "colour", "light", "sharpness"]
SoundBlock = Literal["network", "log_mel", "timbre", "brightness", "rhythm", "tempo", "harmony"]


class Limits(BaseModel):
    """What one media file may hold and cost; beyond it the file is rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    bytes: int = Field(default=2 << 30, description="Largest file, in bytes.", gt=0)
    seconds: float = Field(
        default=1200.0, description="Longest picture or sound, in seconds.", gt=0
    )
    pixels: int = Field(
        default=4096 * 2304, description="Largest decoded frame, in pixels (width x height).", gt=0
    )
    frames: int = Field(default=72_000, description="Most frames in a video stream.", gt=0)
    streams: int = Field(default=16, description="Most streams in a container.", gt=0)
    decoded_bytes: int = Field(
        default=200 << 30, description="Most bytes that decoding one file may produce.", gt=0
    )
    truncated_share: float = Field(
        default=0.1,
        description="Share of the promised length that may be missing or broken.",
        ge=0,
        le=1,
    )
    memory: int = Field(
        default=2 << 30, description="Memory one decode may add to an idle worker, in bytes.", gt=0
    )
    cpu_seconds: float = Field(
        default=120.0, description="CPU time for one file, in seconds.", gt=0
    )
    wall_seconds: float = Field(
        default=300.0, description="Wall time for one file, in seconds.", gt=0
    )
    open_files: int = Field(default=64, description="Files a worker may hold open.", ge=32)


class PictureEncoder(BaseModel):
    """An ONNX network that embeds one picture.

    Its first input takes float32 pictures, its first output is [N, dim] or, with
    ``pooling = "mean"``, a map whose spatial axes are averaged to [N, dim].
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(description="Name of the network in the extractor's name.", min_length=1)
    path: Path = Field(description="The .onnx file.")
    sha256: str = Field(description="sha256 of that file.", pattern="^[0-9a-f]{64}$")
    dim: int = Field(description="Dimension of the embedding.", gt=0)
    size: int = Field(default=224, description="Width and height of the input, in pixels.", ge=8)
    mean: tuple[float, float, float] = Field(
        default=(0.485, 0.456, 0.406),
        description="Mean per channel (R, G, B), on a scale of 0 to 1.",
    )
    std: tuple[float, float, float] = Field(
        default=(0.229, 0.224, 0.225),
        description="Deviation per channel (R, G, B), on a scale of 0 to 1.",
    )
    layout: Literal["nchw", "nhwc"] = Field(
        default="nchw", description="Order of the input's axes."
    )
    pooling: Literal["none", "mean"] = Field(
        default="none",
        description="none: the output is [N, dim]; mean: average over the spatial axes.",
    )


class SoundEncoder(BaseModel):
    """An ONNX network that embeds patches of a log-mel spectrogram.

    Its first input takes float32 patches [N, 1, frames, bands] (or without the axis of
    one), its first output is [N, dim]. What it hears is brought to an RMS of 0.1 before.
    The defaults are those of VGGish.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(description="Name of the network in the extractor's name.", min_length=1)
    path: Path = Field(description="The .onnx file.")
    sha256: str = Field(description="sha256 of that file.", pattern="^[0-9a-f]{64}$")
    dim: int = Field(description="Dimension of the embedding.", gt=0)
    sample_rate: int = Field(default=16_000, description="Sample rate of the input, in Hz.", gt=0)
    window: int = Field(default=400, description="Length of the Hann window, in samples.", gt=0)
    n_fft: int = Field(
        default=512, description="Length of the Fourier transform, in samples.", gt=0
    )
    hop: int = Field(default=160, description="Step between frames, in samples.", gt=0)
    n_mels: int = Field(default=64, description="Mel bands.", gt=0)
    fmin: float = Field(default=125.0, description="Lower edge of the mel bands, in Hz.", ge=0)
    fmax: float = Field(default=7500.0, description="Upper edge of the mel bands, in Hz.", gt=0)
    mel: Literal["htk", "slaney"] = Field(
        default="htk",
        description="Mel bands: htk, of one height; slaney, of one area (librosa's own).",
    )
    power: Literal[1, 2] = Field(
        default=1, description="1: bands sum magnitudes; 2: they sum powers."
    )
    masked: bool = Field(
        default=False,
        description="Whether what cannot be heard is evened out first, as for the statistics.",
    )
    log_scale: float = Field(
        default=1.0, description="Factor of a band before the natural logarithm.", gt=0
    )
    log_offset: float = Field(
        default=0.01, description="Added to the scaled band before the logarithm.", gt=0
    )
    frames: int = Field(default=96, description="Frames in one patch.", gt=0)
    channel_axis: bool = Field(
        default=True, description="Whether patches have a channel axis of one."
    )

    @model_validator(mode="after")
    def _bands_and_windows_fit(self) -> SoundEncoder:
        if not self.fmin < self.fmax <= self.sample_rate / 2:
            raise ValueError("fmin < fmax <= sample_rate / 2 must hold")
        if not self.hop <= self.window <= self.n_fft:
            raise ValueError("hop <= window <= n_fft must hold")
        return self


class VisualConfig(BaseModel):
    """How a clip's pictures become an embedding."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    frames: int = Field(
        default=16, description="Frames embedded per clip, at segment centres.", gt=0
    )
    encoder: PictureEncoder | None = Field(
        default=None, description="Network for the frames; none is the packaged EfficientNet-Lite0."
    )
    blocks: tuple[DynamicsBlock, ...] = Field(
        default=("motion", "rhythm", "colour", "light", "sharpness"),
        description="Measurements by OpenCV that stand beside the network's embedding.",
    )

    @field_validator("blocks")
    @classmethod
    def _each_once(cls, blocks: tuple[str, ...]) -> tuple[str, ...]:
        return _each_block_once(blocks)


class AudioConfig(BaseModel):
    """How a track's sound becomes an embedding."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sample_rate: int = Field(
        default=22_050, description="Sample rate of the analysis, in Hz.", gt=0
    )
    n_fft: int = Field(
        default=2048, description="Length of the Fourier transform, in samples.", gt=0
    )
    hop: int = Field(default=512, description="Step between frames, in samples.", gt=0)
    n_mels: int = Field(default=96, description="Mel bands of the spectrogram.", gt=0)
    max_seconds: float = Field(
        default=180.0, description="Sound analysed per track, from its start, in seconds.", gt=0
    )
    blocks: tuple[SoundBlock, ...] = Field(
        default=("network", "timbre", "rhythm", "harmony"),
        description="What the embedding is made of: a network's mean embedding, and statistics.",
        min_length=1,
    )
    patches: int = Field(
        default=16, description="Most patches of a track that the network hears.", gt=0
    )
    encoder: SoundEncoder | None = Field(
        default=None, description="Network for the block of that name; none is MusiCNN."
    )

    @field_validator("blocks")
    @classmethod
    def _each_once(cls, blocks: tuple[str, ...]) -> tuple[str, ...]:
        return _each_block_once(blocks)

    @model_validator(mode="after")
    def _no_gaps(self) -> AudioConfig:
        if self.hop > self.n_fft:
            raise ValueError("hop is above n_fft: sound between two frames would not be heard")
        return self

    @model_validator(mode="after")
    def _no_idle_encoder(self) -> AudioConfig:
        if self.encoder is not None and "network" not in self.blocks:
            raise ValueError('audio has an encoder, but "network" is not among its blocks')
        return self


def _each_block_once(blocks: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({block for block in blocks if blocks.count(block) > 1})
    if twice:
        raise ValueError(f"named twice: {', '.join(twice)}")
    return blocks
