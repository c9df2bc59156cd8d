from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from features import EncoderError
from features.networks.onnx_network import Network
from features.networks.packaged import MUSICNN


@pytest.mark.slow
def test_the_network_is_that_of_its_package(tmp_path: Path) -> None:
    """Fetches the package, of which pip takes the weights, from PyPI."""
    import torch

    from tools.musicnn_export import load_network

    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
         "--dest", str(tmp_path), "musicnn==0.1.0"],
        check=True,
    )  # fmt: skip
    (package,) = tmp_path.iterdir()
    patches = np.random.default_rng(0).uniform(0, 7, (2, 187, 96)).astype(np.float32)
    with torch.no_grad():
        expected = load_network(package)(torch.from_numpy(patches)).numpy()
    found = Network("musicnn", MUSICNN.path, MUSICNN.dim)(patches)
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-3)
    package.write_bytes(package.read_bytes() + b" ")
    with pytest.raises(EncoderError, match="expected f38a4890"):
        load_network(package)
