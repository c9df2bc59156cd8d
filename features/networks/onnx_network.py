"""Running an ONNX network on the CPU: one thread, no spinning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from features.arrays import Float32Array
from features.config import VisualConfig
from features.errors import EncoderError
from features.networks.packaged import lite0


class Network:
    """An ONNX network with one input and an output of a known dimension."""

    def __init__(self, name: str, path: Path, dim: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises classes of its own from plain Exception
            raise EncoderError(f"encoder {name!r}: {path} cannot be loaded: {error}") from error
        self.name = name
        self.dim = dim
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name

    def __call__(self, batch: Float32Array) -> Float32Array:
        """Map a float32 batch [N, ...] to the network's first output [N, ...].

        Raises:
            EncoderError: the network refuses the shape.
        """
        try:
            (output,) = self._session.run([self._output], {self._input: batch})
        except Exception as error:  # onnxruntime raises classes of its own from plain Exception
            raise EncoderError(
                f"encoder {self.name!r} refuses an input of shape {batch.shape}: {error}"
            ) from error
        return np.asarray(output, np.float32)

    def check(self, output: Float32Array, count: int) -> Float32Array:
        """Return an output that is [count, dim] and finite.

        Raises:
            EncoderError: another shape, or values that are not finite.
        """
        if output.shape != (count, self.dim):
            raise EncoderError(
                f"encoder {self.name!r} returns {output.shape}, "
                f"the configuration says ({count}, {self.dim})"
            )
        if not np.isfinite(output).all():
            raise EncoderError(f"encoder {self.name!r} returns values that are not finite")
        return output


class FrameEncoder:
    """Embeds pictures by the configured network."""

    def __init__(self, config: VisualConfig, path: Path) -> None:
        self._encoder = config.encoder or lite0(path)
        self._network = Network(self._encoder.name, path, self._encoder.dim)
        self.dim = self._encoder.dim
        self.size = self._encoder.size
        mean = np.array(self._encoder.mean, np.float32).reshape(3, 1, 1)
        std = np.array(self._encoder.std, np.float32).reshape(3, 1, 1)
        self._scale = 1 / (255 * std)
        self._shift = mean / std

    def __call__(self, pictures: npt.NDArray[np.uint8]) -> Float32Array:
        """Map uint8 [N, size, size, 3] (RGB) to float32 [N, dim].

        Raises:
            EncoderError: the network's input or output has another shape than configured.
        """
        # One picture at a time: a batch gains nothing on one thread and costs memory.
        return np.concatenate([self._one(picture) for picture in pictures])

    def _one(self, picture: npt.NDArray[np.uint8]) -> Float32Array:
        planes = np.ascontiguousarray(picture.transpose(2, 0, 1)).astype(np.float32)
        planes *= self._scale
        planes -= self._shift
        batch = planes[None]
        if self._encoder.layout == "nhwc":
            batch = np.ascontiguousarray(batch.transpose(0, 2, 3, 1))
        output = self._network(batch)
        if self._encoder.pooling == "mean":
            spatial = (2, 3) if self._encoder.layout == "nchw" else (1, 2)
            if output.ndim != 4:
                raise EncoderError(
                    f"encoder {self._encoder.name!r} returns {output.shape}; "
                    'pooling = "mean" needs four axes'
                )
            output = output.mean(axis=spatial)
        return self._network.check(output, 1)
