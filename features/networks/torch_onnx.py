"""Writing a network of PyTorch as ONNX."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import torch

from features.networks.packaged import OPSET


def write_onnx(network: torch.nn.Module, name: str, example: torch.Tensor, target: Path) -> None:
    """Write a network of one input as ONNX with a free batch axis, and sync it to disk.

    Args:
        network: in evaluation mode; maps [N, ...] to [N, dim].
        name: of the input.
        example: an input, [1, ...].
        target: the file.
    """
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        # torch announces that its newer exporter will become the default.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network,
            (example,),
            target,
            opset_version=OPSET,
            input_names=[name],
            output_names=["embeddings"],
            dynamic_axes={name: {0: "n"}, "embeddings": {0: "n"}},
            dynamo=False,
        )
    with target.open("rb+") as file:
        os.fsync(file.fileno())
