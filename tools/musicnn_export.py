"""Builds MusiCNN in PyTorch from the weights in its package, and exports it to ONNX.

MusiCNN tags music (Pons and Serra, "musicnn: pre-trained convolutional neural networks for
music audio tagging", ISMIR 2019, late-breaking). Its package contains two trainings with
complementary tags: the Million Song Dataset (genres, moods) and MagnaTagATune (instruments,
voices). The package requires versions of TensorFlow and NumPy that can no longer be installed, so
the exported network is kept in this repository. To export it again::

    pip download --no-deps musicnn==0.1.0
    python -m tools.musicnn_export musicnn-0.1.0-py3-none-any.whl

The file then has the sha256 in ``features/networks/packaged.py``.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from features.errors import EncoderError
from features.networks.packaged import MUSICNN
from features.networks.torch_onnx import write_onnx
from tools.tensorbundle import read_bundle

# sha256 of the package on PyPI that contains the weights.
PACKAGE = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"

# Folders of the two trainings in the package: Million Song Dataset, MagnaTagATune.
_TRAININGS = ("MSD_musicnn", "MTT_musicnn")

# Channels, frames and bands of the convolution kernels.
_TIMBRAL = ((204, 7, 38), (204, 7, 67))
_TEMPORAL = ((51, 128, 1), (51, 64, 1), (51, 32, 1))
_FRONT = sum(channels for channels, _, _ in _TIMBRAL + _TEMPORAL)
_MIDDLE = ((64, 7, _FRONT), (64, 7, 64), (64, 7, 64))
_POOLED = 2 * (_FRONT + sum(channels for channels, _, _ in _MIDDLE))
_UNITS = 200
_EPSILON = 1e-3


class Convolution(nn.Module):
    """A convolution over frames and all bands, ReLU, batch normalisation, maximum over bands."""

    def __init__(self, channels: int, frames: int, bands: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, channels, (frames, bands))
        self.normalisation = nn.BatchNorm2d(channels, eps=_EPSILON)
        # Keeps the number of frames. For an even kernel, TensorFlow pads the end more.
        self.padding = (0, 0, (frames - 1) // 2, frames // 2)

    def forward(self, rows: Tensor) -> Tensor:
        """Map float32 [N, 1, frames, bands] to [N, channels, frames]."""
        padded = functional.pad(rows, self.padding)
        maps: Tensor = self.normalisation(torch.relu(self.convolution(padded)))
        return maps.amax(dim=3)


class Musicnn(nn.Module):
    """One training of MusiCNN up to its last hidden layer, without that layer's ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.normalisation = nn.BatchNorm2d(1, eps=_EPSILON)
        kernels = _TIMBRAL + _TEMPORAL + _MIDDLE
        self.convolutions = nn.ModuleList(Convolution(*kernel) for kernel in kernels)
        self.pooled = nn.BatchNorm1d(_POOLED, eps=_EPSILON)
        self.dense = nn.Linear(_POOLED, _UNITS)

    def forward(self, patches: Tensor) -> Tensor:
        """Map log-mel patches float32 [N, 187, 96], log(1 + 10000 power), to [N, 200]."""
        # The network was trained on logarithms to base 10.
        rows = self.normalisation(patches[:, None] / np.log(10))
        *front, first, second, third = self.convolutions
        front_maps = torch.cat([convolution(rows) for convolution in front], dim=1)
        one = first(_rows(front_maps))
        two = second(_rows(one)) + one
        three = third(_rows(two)) + two
        maps = torch.cat([front_maps, one, two, three], dim=1)
        pooled = torch.stack([maps.amax(dim=2), maps.mean(dim=2)], dim=2).flatten(1)
        units: Tensor = self.dense(self.pooled(pooled))
        return units


class MusicnnPair(nn.Module):
    """Concatenates the hidden units of both trainings and applies a sigmoid.

    The units after the ReLU are 0 for most music, and a codec can activate one. The units
    before the ReLU vary smoothly, but a few extreme values would dominate a cosine similarity;
    the sigmoid limits them to (0, 1).
    """

    def __init__(self, trainings: Iterable[Musicnn]) -> None:
        super().__init__()
        self.trainings = nn.ModuleList(trainings)

    def forward(self, patches: Tensor) -> Tensor:
        """Map log-mel patches float32 [N, 187, 96], log(1 + 10000 power), to [N, 400]."""
        return torch.cat([training(patches) for training in self.trainings], dim=1).sigmoid()


def _rows(maps: Tensor) -> Tensor:
    """Turn [N, channels, frames] into an image [N, 1, frames, channels]."""
    return maps.transpose(1, 2)[:, None]


def load_network(package: Path) -> MusicnnPair:
    """Return both trainings with the weights of a package, in evaluation mode.

    Args:
        package: the wheel of musicnn 0.1.0.

    Raises:
        EncoderError: the file has another sha256 than that wheel.
    """
    found = hashlib.sha256(package.read_bytes()).hexdigest()
    if found != PACKAGE:
        raise EncoderError(f"{package} is not musicnn 0.1.0: sha256 {found}, expected {PACKAGE}")
    with ZipFile(package) as wheel:
        return MusicnnPair(_load_training(wheel, training) for training in _TRAININGS).eval()


def _load_training(wheel: ZipFile, training: str) -> Musicnn:
    """Return the network with the weights of one training."""
    folder = f"musicnn/{training}"
    tensors = read_bundle(
        wheel.read(f"{folder}/.index"), wheel.read(f"{folder}/.data-00000-of-00001")
    )
    network = Musicnn()
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    for number, layer in enumerate(convolutions):
        # TensorFlow's kernels are [frames, bands, in, out].
        kernel = tensors[_numbered("conv2d", number) + "/kernel"].transpose(3, 2, 0, 1)
        _fill(layer, kernel, tensors[_numbered("conv2d", number) + "/bias"])
    for number, normalisation in enumerate(_normalisations(network)):
        name = _numbered("batch_normalization", number)
        _fill(normalisation, tensors[f"{name}/gamma"], tensors[f"{name}/beta"])
        normalisation.running_mean = torch.tensor(tensors[f"{name}/moving_mean"])
        normalisation.running_var = torch.tensor(tensors[f"{name}/moving_variance"])
    _fill(network.dense, tensors["dense/kernel"].T, tensors["dense/bias"])
    return network


def _numbered(name: str, number: int) -> str:
    """Return TensorFlow's name of the n-th layer of a kind, from 0."""
    return f"{name}_{number}" if number else name


def _normalisations(network: Musicnn) -> list[nn.BatchNorm1d | nn.BatchNorm2d]:
    """Return the normalisation layers in the order of TensorFlow's numbers."""
    return [
        layer for layer in network.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)
    ]


def _fill(layer: nn.Module, weight: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]) -> None:
    """Set weight and bias of a layer; their shapes must match."""
    with torch.no_grad():
        layer.get_parameter("weight").copy_(torch.tensor(weight))
        layer.get_parameter("bias").copy_(torch.tensor(bias))


if __name__ == "__main__":
    patches = torch.zeros(1, MUSICNN.frames, MUSICNN.n_mels)
    write_onnx(load_network(Path(sys.argv[1])), "patches", patches, MUSICNN.path)
