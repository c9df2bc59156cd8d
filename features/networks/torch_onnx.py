"""Writes a PyTorch network as an ONNX file."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import torch

from features.networks.packaged import OPSET


def write_onnx(network: torch.nn.Module, name: str, example: torch.Tensor, target: Path) -> None:
    """Write a network as ONNX with a variable batch size, and fsync the file.

    Args:
        network: a network in evaluation mode that maps one input [N, ...] to [N, dim].
        name: name of the input.
        example: an input, [1, ...].
        target: the file to write.
    """
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        # torch warns that the exporter for dynamo=False is deprecated.
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
