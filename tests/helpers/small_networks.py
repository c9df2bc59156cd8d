"""Writes small ONNX networks whose outputs are easy to compute by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def mean_over(path: Path, shape: Sequence[object], axes: Sequence[int], scale: float = 1.0) -> Path:
    """Write a network that averages its input over some axes and multiplies the result."""
    kept = [size for axis, size in enumerate(shape) if axis not in axes]
    return _write(
        path,
        [
            helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=0),
            helper.make_node("Mul", ["mean", "scale"], ["y"]),
        ],
        {"axes": np.array(axes, np.int64), "scale": np.array(scale, np.float32)},
        shape,
        kept,
    )


def identity(path: Path, shape: Sequence[object]) -> Path:
    """Write a network that returns its input."""
    return _write(path, [helper.make_node("Identity", ["x"], ["y"])], {}, shape, shape)


def _write(
    path: Path,
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    given: Sequence[object],
    returned: Sequence[object],
) -> Path:
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, given)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, returned)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path
