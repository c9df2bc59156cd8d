from __future__ import annotations

import numpy as np

from features import VisualConfig, ensure_encoder
from features.networks.onnx_network import FrameEncoder


def test_the_exported_network_equals_that_of_pytorch() -> None:
    import torch

    from features.networks.lite0 import Lite0

    config = VisualConfig()
    pictures = np.random.default_rng(1).integers(0, 256, (2, 224, 224, 3), np.uint8)
    found = FrameEncoder(config, ensure_encoder(config))(pictures)
    # The preprocessing of its authors is (x - 127) / 128.
    batch = (torch.from_numpy(pictures).permute(0, 3, 1, 2).float() - 127) / 128
    with torch.inference_mode():
        expected = Lite0().eval()(batch).numpy()
    assert found.shape == (2, 1280)
    np.testing.assert_allclose(found, expected, atol=1e-4)
