"""From a file's sound to its embedding and log-mel spectrogram."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from features.arrays import Float64Array
from features.config import AudioConfig
from features.container.media_file import MediaFile
from features.errors import MediaError, Reason
from features.networks.export import check_network
from features.networks.extractor_name import extractor_name
from features.networks.onnx_network import Network
from features.networks.packaged import sound_encoder
from features.results import AudioFeatures, Decoder
from features.sound import blocks
from features.sound.decode import Sound, decode_sound
from features.sound.numba_cache import one_compiler
from features.sound.patches import log_mel_patches

__all__ = ["AudioExtractor", "extractor_name"]

Span = tuple[float, float]


class AudioExtractor:
    """Decodes sound once and measures it.

    Attributes:
        extractor: ``name@version``, see ``extractor_name``.
        dim: length of the embedding.
        blocks: name of each part of the embedding and where it lies.
    """

    def __init__(self, config: AudioConfig) -> None:
        self.config = config
        self.extractor = extractor_name(config)
        self._encoder = sound_encoder(config)
        if self._encoder is not None:
            network = check_network(self._encoder)
            self._network = Network(self._encoder.name, network, self._encoder.dim)
        self.blocks: dict[str, slice] = {}
        self.dim = 0
        silence = np.zeros(config.sample_rate, np.float32)
        with one_compiler(config.blocks):
            measured = self._measure(blocks.analyse(silence, config))
        for block, values in measured.items():
            self.blocks[block] = slice(self.dim, self.dim + len(values))
            self.dim += len(values)

    def extract(
        self, media: MediaFile, spans: Sequence[Span] | None = None, origin: float | None = None
    ) -> list[AudioFeatures]:
        """Return the features of each span (seconds), or of the whole track, by one decode.

        Spans count from ``origin``, seconds on the file's clock, or from the first sample.

        Raises:
            MediaError: the file or a span cannot be used.
            EncoderError: the network does not fit its configuration.
        """
        longest = self.config.max_seconds
        if spans is not None:
            longest = max((end for _, end in spans), default=longest)
        sound = decode_sound(media, self.config.sample_rate, longest, origin)
        if spans is None:
            return [self.measure(sound.samples, sound.decoder)]
        return [self._segment(sound, span) for span in spans]

    def _segment(self, sound: Sound, span: Span) -> AudioFeatures:
        part = sound.part(*span)
        if part.size == 0:
            raise MediaError(
                Reason.BAD_SEGMENT,
                f"segment {span[0]:g} to {span[1]:g} s of a sound of "
                f"{len(sound.samples) / sound.sample_rate:.3f} s",
            )
        return self.measure(part, sound.decoder)

    def measure(self, samples: npt.NDArray[np.float32], decoder: Decoder) -> AudioFeatures:
        """Return the features of mono float32 [n] at the configured sample rate."""
        spectra = blocks.analyse(samples, self.config)
        embedding = np.concatenate(list(self._measure(spectra).values()))
        return AudioFeatures(
            embedding.astype(np.float32), spectra.log_mel.astype(np.float16), decoder
        )

    def _measure(self, spectra: blocks.Spectra) -> dict[str, Float64Array]:
        """Return the values of each block."""
        return {
            block: self._listen(spectra) if block == "network" else blocks.BLOCKS[block](spectra)
            for block in self.config.blocks
        }

    def _listen(self, spectra: blocks.Spectra) -> Float64Array:
        """Return the network's mean embedding [dim]."""
        assert self._encoder is not None
        patches = log_mel_patches(
            spectra.samples, spectra.sample_rate, self._encoder, self.config.patches
        )
        # One at a time: a batch gains nothing on one thread and costs memory.
        vectors = [self._network.check_output(self._network(patch[None]), 1) for patch in patches]
        return np.asarray(np.concatenate(vectors).mean(axis=0), np.float64)
