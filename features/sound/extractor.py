"""Extracts the embedding and the log-mel spectrogram of a file's sound."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.arrays import Float32Array, Float64Array
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
    """Decodes a file's sound and computes its features.

    Raises:
        EncoderError: the configured network is missing, or differs from its configuration.

    Attributes:
        config: the settings.
        extractor: ``name@version``, see ``extractor_name``.
        dim: dimension of the embedding.
        blocks: slice of the embedding per block, in the order of ``config.blocks``.

    Example:
        >>> extractor = AudioExtractor(AudioConfig())
        >>> (features,) = extractor.extract(MediaFile(Path("track.mp3")))
        >>> features.embedding[extractor.blocks["harmony"]]
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
        # Measuring silence gives the dimensions, and compiles what measuring any sound needs.
        silence = np.zeros(config.sample_rate, np.float32)
        with one_compiler(config.blocks):
            measured = self._measure_blocks(blocks.analyse(silence, config))
        for block, values in measured.items():
            self.blocks[block] = slice(self.dim, self.dim + len(values))
            self.dim += len(values)

    def extract(
        self, media: MediaFile, spans: Sequence[Span] | None = None, origin: float | None = None
    ) -> list[AudioFeatures]:
        """Decode a file once, and return the features of the whole track or of each span.

        Args:
            media: the file.
            spans: start and end of each span, in seconds from ``origin``; None: the whole track, at
                most ``config.max_seconds``.
            origin: time zero of the spans on the file's own clock, in seconds; None: the first
                sample.

        Raises:
            MediaError: the file is rejected, or a span is outside the sound.
            EncoderError: the network's output differs from its configuration.
        """
        longest = self.config.max_seconds
        if spans is not None:
            longest = max((end for _, end in spans), default=longest)
        sound = decode_sound(media, self.config.sample_rate, longest, origin)
        if spans is None:
            return [self.measure(sound.samples, sound.decoder)]
        return [self._segment(sound, span) for span in spans]

    def _segment(self, sound: Sound, span: Span) -> AudioFeatures:
        part = sound.between(*span)
        if part.size == 0:
            raise MediaError(
                Reason.BAD_SEGMENT,
                f"the segment from {span[0]:g} to {span[1]:g} s is outside the sound of "
                f"{len(sound.samples) / sound.sample_rate:.3f} s",
            )
        return self.measure(part, sound.decoder)

    def measure(self, samples: Float32Array, decoder: Decoder) -> AudioFeatures:
        """Return the features of mono samples, float32 [n], at the configured sample rate."""
        spectra = blocks.analyse(samples, self.config)
        embedding = np.concatenate(list(self._measure_blocks(spectra).values()))
        return AudioFeatures(
            embedding.astype(np.float32), spectra.log_mel.astype(np.float16), decoder
        )

    def _measure_blocks(self, spectra: blocks.Spectra) -> dict[str, Float64Array]:
        return {
            block: self._embed(spectra) if block == "network" else blocks.BLOCKS[block](spectra)
            for block in self.config.blocks
        }

    def _embed(self, spectra: blocks.Spectra) -> Float64Array:
        """Return the network's mean embedding of the patches, [dim]."""
        assert self._encoder is not None
        patches = log_mel_patches(
            spectra.samples, spectra.sample_rate, self._encoder, self.config.patches
        )
        # One at a time: on one thread a batch is not faster and needs more memory.
        vectors = [self._network.check_output(self._network(patch[None]), 1) for patch in patches]
        return np.asarray(np.concatenate(vectors).mean(axis=0), np.float64)
