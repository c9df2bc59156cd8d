"""From a file's sound to its embedding and log-mel spectrogram."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import librosa
import numpy as np
import numpy.typing as npt
import soxr

from features import acoustics
from features.config import AudioConfig, Limits, SoundEncoder
from features.encoder import Network
from features.errors import MediaError, Reason
from features.export import check_network
from features.naming import extractor_name
from features.results import AudioFeatures
from features.sound import Sound, decode_sound

__all__ = ["AudioExtractor", "extractor_name"]

Span = tuple[float, float]


class AudioExtractor:
    """Decodes sound once and measures it.

    Attributes:
        extractor: ``name@version``, see ``extractor_name``.
        dim: length of the embedding.
        blocks: name of each part of the embedding and where it lies.
    """

    def __init__(self, config: AudioConfig, limits: Limits | None = None) -> None:
        self.config = config
        self.limits = limits or Limits()
        self.extractor = extractor_name(config)
        self._network: Network | None = None
        if config.encoder is not None:
            encoder = config.encoder
            self._network = Network(encoder.name, check_network(encoder), encoder.dim)
        self.blocks = self._blocks()
        self.dim = max(part.stop for part in self.blocks.values())

    def _blocks(self) -> dict[str, slice]:
        silence = acoustics.analyse(np.zeros(self.config.sample_rate, np.float32), self.config)
        parts: dict[str, slice] = {}
        at = 0
        for block in self.config.blocks:
            length = len(acoustics.measure(silence, [block]))
            parts[block] = slice(at, at + length)
            at += length
        if self.config.encoder is not None:
            parts[self.config.encoder.name] = slice(at, at + self.config.encoder.dim)
        return parts

    def extract(self, path: Path, spans: Sequence[Span] | None = None) -> list[AudioFeatures]:
        """Return the features of each span (seconds), or of the whole track, by one decode.

        Raises:
            MediaError: the file or a span cannot be used.
            EncoderError: the network does not fit its configuration.
        """
        longest = self.config.max_seconds
        if spans is not None:
            longest = max((end for _, end in spans), default=longest)
        sound = decode_sound(path, self.config.sample_rate, longest, self.limits)
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

    def measure(self, samples: npt.NDArray[np.float32], decoder: str) -> AudioFeatures:
        """Return the features of mono float32 [n] at the configured sample rate."""
        spectra = acoustics.analyse(samples, self.config)
        embedding = acoustics.measure(spectra, self.config.blocks)
        if self._network is not None and self.config.encoder is not None:
            patches = log_mel_patches(samples, self.config.sample_rate, self.config.encoder)
            vectors = self._network.check(self._network(patches), len(patches))
            embedding = np.concatenate([embedding, vectors.mean(axis=0)])
        return AudioFeatures(
            embedding.astype(np.float32), spectra.log_mel.astype(np.float16), decoder
        )


def log_mel_patches(
    samples: npt.NDArray[np.float32], sample_rate: int, encoder: SoundEncoder
) -> npt.NDArray[np.float32]:
    """Return log-mel patches float32 [N, 1, frames, bands] as VGGish takes them.

    Magnitudes of a Hann window, HTK mel bands, natural logarithm with an offset; patches do
    not overlap and the last one is padded (Hershey et al., ICASSP 2017).
    """
    resampled = soxr.resample(samples, sample_rate, encoder.sample_rate, "HQ")
    if len(resampled) < encoder.n_fft:
        resampled = np.pad(resampled, (0, encoder.n_fft - len(resampled)))
    magnitude = np.abs(
        librosa.stft(
            resampled,
            n_fft=encoder.n_fft,
            hop_length=encoder.hop,
            win_length=encoder.window,
            center=False,
        )
    )
    bank = librosa.filters.mel(
        sr=encoder.sample_rate,
        n_fft=encoder.n_fft,
        n_mels=encoder.n_mels,
        fmin=encoder.fmin,
        fmax=encoder.fmax,
        htk=True,
        norm=None,
    )
    logs = np.log(bank @ magnitude + encoder.log_offset).T.astype(np.float32)
    short = -len(logs) % encoder.frames
    logs = np.pad(logs, ((0, short), (0, 0)), mode="edge")
    patches = logs.reshape(-1, encoder.frames, encoder.n_mels)
    return patches[:, None] if encoder.channel_axis else patches
