"""MusiCNN in PyTorch has the shapes of its paper and the outputs of the exported network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from features import EncoderError
from features.networks.onnx_network import Network
from features.networks.packaged import MUSICNN
from tools.musicnn_export import Convolution, Musicnn, MusicnnPair, load_network


def patches_of_noise(count: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).uniform(0, 7, (count, 187, 96)).astype(np.float32)


@pytest.mark.parametrize("frames", [7, 38])
def test_a_convolution_keeps_the_number_of_frames(frames: int) -> None:
    layer = Convolution(channels=3, frames=frames, bands=96)
    assert layer(torch.zeros(2, 1, 187, 96)).shape == (2, 3, 187)


def test_both_trainings_give_400_units_between_0_and_1() -> None:
    pair = MusicnnPair([Musicnn(), Musicnn()]).eval()
    with torch.no_grad():
        units = pair(torch.from_numpy(patches_of_noise(2)))
    assert units.shape == (2, MUSICNN.dim) == (2, 400)
    assert units.min() > 0
    assert units.max() < 1


def test_another_package_is_refused(tmp_path: Path) -> None:
    package = tmp_path / "musicnn.whl"
    package.write_bytes(b"another package")
    with pytest.raises(EncoderError, match="expected f38a4890"):
        load_network(package)


@pytest.mark.slow
def test_the_exported_network_equals_that_of_its_package(tmp_path: Path) -> None:
    """Downloads the package that contains the weights."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
         "--dest", str(tmp_path), "musicnn==0.1.0"],
        check=True,
    )  # fmt: skip
    (package,) = tmp_path.iterdir()
    patches = patches_of_noise(2)
    with torch.no_grad():
        expected = load_network(package)(torch.from_numpy(patches)).numpy()
    found = Network("musicnn", MUSICNN.path, MUSICNN.dim)(patches)
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-3)
