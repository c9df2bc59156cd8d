from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from features.networks.onnx_network import Network
from features.networks.torch_onnx import write_onnx


def test_a_written_network_takes_batches_of_any_size(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5)).eval()
    path = tmp_path / "small.onnx"
    write_onnx(network, "pictures", torch.zeros(1, 3, 4), path)
    written = Network("small", path, 5)
    for count in (1, 3):
        batch = torch.rand(count, 3, 4)
        with torch.inference_mode():
            expected = network(batch).numpy()
        np.testing.assert_allclose(written(batch.numpy()), expected, atol=1e-6)
