"""Runs ONNX networks on the CPU with one thread."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from features.arrays import Float32Array, UInt8Array
from features.config import VisualConfig
from features.errors import EncoderError
from features.networks.packaged import lite0_encoder


class Network:
    """An ONNX network with one input and embeddings of a known dimension as its first output.

    Args:
        name: name for error messages.
        path: the .onnx file.
        dim: dimension of the embeddings.

    Raises:
        EncoderError: the file cannot be loaded.
    """

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
        except Exception as error:  # onnxruntime derives its errors from Exception
            raise EncoderError(f"encoder {name!r}: {path} cannot be loaded: {error}") from error
        self.name = name
        self.dim = dim
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name

    def __call__(self, batch: Float32Array) -> Float32Array:
        """Run the network on a batch, float32 [N, ...], and return its first output, float32.

        Raises:
            EncoderError: the network does not accept the shape.
        """
        try:
            (output,) = self._session.run([self._output], {self._input: batch})
        except Exception as error:  # onnxruntime derives its errors from Exception
            raise EncoderError(
                f"encoder {self.name!r} does not accept an input of shape {batch.shape}: {error}"
            ) from error
        return np.asarray(output, np.float32)

    def check_output(self, output: Float32Array, count: int) -> Float32Array:
        """Return the output after checking that it is [count, dim] and finite.

        Raises:
            EncoderError: it has another shape, or values that are not finite.
        """
        if output.shape != (count, self.dim):
            raise EncoderError(
                f"encoder {self.name!r} returns shape {output.shape}, "
                f"expected ({count}, {self.dim}) by its configuration"
            )
        if not np.isfinite(output).all():
            raise EncoderError(f"encoder {self.name!r} returns values that are not finite")
        return output


class FrameEncoder:
    """Embeds frames with the configured network.

    Attributes:
        dim: dimension of an embedding.
        size: width and height of the frames it takes, in pixels.
    """

    def __init__(self, config: VisualConfig, path: Path) -> None:
        self._encoder = config.encoder or lite0_encoder(path)
        self._network = Network(self._encoder.name, path, self._encoder.dim)
        self.dim = self._encoder.dim
        self.size = self._encoder.size
        mean = np.array(self._encoder.mean, np.float32).reshape(3, 1, 1)
        std = np.array(self._encoder.std, np.float32).reshape(3, 1, 1)
        self._scale = 1 / (255 * std)
        self._shift = mean / std

    def __call__(self, frames: UInt8Array) -> Float32Array:
        """Embed frames, uint8 [N, size, size, 3] in RGB, as float32 [N, dim].

        Raises:
            EncoderError: the network's input or output has another shape than configured.
        """
        # One at a time: on one thread a batch is not faster and needs more memory.
        return np.concatenate([self._embed(frame) for frame in frames])

    def _embed(self, frame: UInt8Array) -> Float32Array:
        planes = np.ascontiguousarray(frame.transpose(2, 0, 1)).astype(np.float32)
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
                    f"encoder {self._encoder.name!r} returns shape {output.shape}; "
                    'pooling = "mean" needs four axes'
                )
            output = output.mean(axis=spatial)
        return self._network.check_output(output, 1)
