"""Decoding a file's sound to mono float32, by PyAV or, where it cannot, by soundfile."""

from __future__ import annotations

from dataclasses import dataclass

import av
import av.error
import numpy as np
import soxr

from features.arrays import Float32Array
from features.container.budget import Budget
from features.container.media_file import MediaFile
from features.container.truncation import check_missing_share, declared_audio_seconds
from features.errors import MediaError, Reason
from features.results import Decoder
from features.sound.sndfile_fallback import finite, read_mono

_SAMPLE_TYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}


@dataclass(frozen=True)
class Sound:
    """Decoded sound.

    Attributes:
        samples: float32 [n], mono, within -1 to 1.
        sample_rate: Hz.
        decoder: ``pyav`` or ``soundfile``.
    """

    samples: Float32Array
    sample_rate: int
    decoder: Decoder

    def part(self, start: float, end: float) -> Float32Array:
        """Return the samples from ``start`` to ``end`` seconds."""
        return self.samples[round(start * self.sample_rate) : round(end * self.sample_rate)]


def decode_sound(
    media: MediaFile,
    sample_rate: int,
    max_seconds: float,
    origin: float | None = None,
) -> Sound:
    """Decode at most ``max_seconds`` of the first stream of sound, once.

    With ``origin`` (seconds on the file's clock) the first sample is the one heard at that
    moment: sound before it is left out, silence stands for sound that starts later.

    Channels are averaged, values clamped to -1 to 1 (lossy codecs overshoot), and the
    sample rate changed by soxr in high quality.

    Raises:
        MediaError: no_audio, undecodable, truncated, too_long or a limit.
    """
    try:
        chunks = _decode_pyav(media, max_seconds, origin)
        decoder = Decoder.PYAV
    except MediaError as error:
        if error.reason not in (Reason.UNDECODABLE, Reason.UNSUPPORTED_CONTAINER):
            raise
        second = read_mono(media, max_seconds)
        if second is None:
            raise
        chunks, decoder = [second], Decoder.SOUNDFILE
    samples = np.concatenate(
        [
            chunk if rate == sample_rate else soxr.resample(chunk, rate, sample_rate, "HQ")
            for rate, chunk in chunks
        ]
    )
    samples = np.clip(samples[: round(max_seconds * sample_rate)], -1.0, 1.0)
    if samples.size == 0:
        raise MediaError(Reason.UNDECODABLE, "the stream of sound decodes to no sample")
    return Sound(samples.astype(np.float32, copy=False), sample_rate, decoder)


def _decode_pyav(
    media: MediaFile, max_seconds: float, origin: float | None
) -> list[tuple[int, Float32Array]]:
    """Return runs of one sample rate, mono, from the origin on."""
    runs: list[tuple[int, list[Float32Array]]] = []
    packets = errors = 0
    seconds = promised = early = 0.0
    limits = media.limits
    budget = Budget(limits)
    with media.open() as demuxer:
        stream = demuxer.audio_stream
        if stream is None:
            raise MediaError(Reason.NO_AUDIO, "no stream of sound that a decoder knows")
        stream.codec_context.thread_count = 1
        promised = declared_audio_seconds(demuxer.format_name, stream)
        try:
            for packet in demuxer.packets(stream):
                packets += 1
                try:
                    frames = packet.decode()
                except av.error.EOFError:
                    continue
                except (MemoryError, av.error.MemoryError) as error:
                    raise MediaError(Reason.OUT_OF_MEMORY, "while decoding sound") from error
                except av.error.FFmpegError:
                    errors += 1
                    continue
                for frame in frames:
                    rate, channels = frame.sample_rate, frame.layout.nb_channels
                    if frame.samples <= 0 or channels <= 0:
                        continue
                    budget.check_sample_rate(rate)
                    budget.add_samples(frame.samples, channels, frame.format.bytes)
                    if not runs and origin is not None and frame.time is not None:
                        early = origin - frame.time
                    if not runs or runs[-1][0] != rate:
                        runs.append((rate, []))
                    runs[-1][1].append(mono(frame))
                    seconds += frame.samples / rate
                if seconds >= min(max_seconds + early, limits.seconds):
                    break
        except av.error.FFmpegError as error:
            if not runs:
                raise MediaError(Reason.UNDECODABLE, f"sound cannot be read: {error}") from error
            errors += 1
    if not runs:
        raise MediaError(Reason.UNDECODABLE, f"none of {packets} packets of sound can be decoded")
    if errors > limits.truncated_share * packets:
        raise MediaError(
            Reason.TRUNCATED, f"{errors} of {packets} packets of sound cannot be decoded"
        )
    promised = min(promised, max_seconds + early, limits.seconds)
    check_missing_share(1 - seconds / promised if promised > 0 else 0.0, limits)
    whole = [(rate, np.concatenate(parts)) for rate, parts in runs]
    return _aligned(whole, early, min(max_seconds, limits.seconds))


def _aligned(
    runs: list[tuple[int, Float32Array]], early: float, longest: float
) -> list[tuple[int, Float32Array]]:
    """Take ``early`` seconds off the start, or put so many before it when it is negative."""
    if early < 0:
        rate = runs[0][0]
        return [(rate, np.zeros(round(min(-early, longest) * rate), np.float32)), *runs]
    kept = []
    for rate, samples in runs:
        kept.append((rate, samples[round(early * rate) :]))
        early = max(0.0, early - len(samples) / rate)
    return kept


def mono(frame: av.AudioFrame) -> Float32Array:
    """Return the mean of a frame's channels as float32 [samples], full scale 1."""
    channels = frame.layout.nb_channels
    # Not to_ndarray(): with eight channels or more PyAV counts a plane too many, and reading
    # that one crashes; and it does not know whole numbers of 64 bits.
    dtype = _SAMPLE_TYPES[frame.format.name.removesuffix("p")]
    if frame.format.is_planar:
        planes = frame.planes[:channels]
        values = np.stack([np.frombuffer(bytes(plane), dtype, frame.samples) for plane in planes])
    else:
        packed = np.frombuffer(bytes(frame.planes[0]), dtype, frame.samples * channels)
        values = packed.reshape(-1, channels).T
    if values.dtype.kind == "f":
        floats = finite(values)
    elif values.dtype == np.uint8:
        floats = (values.astype(np.float32) - np.float32(128)) / np.float32(128)
    else:
        floats = values.astype(np.float32) / np.float32(1 << (8 * values.itemsize - 1))
    return np.asarray(floats.mean(axis=0), np.float32)
