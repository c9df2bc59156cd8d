"""Decodes the sound of a file to mono float32, with PyAV or, where that fails, libsndfile."""

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
from features.sound.sndfile_fallback import read_mono, to_finite

# NumPy type of each sample format of FFmpeg.
_SAMPLE_TYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}


@dataclass(frozen=True)
class Sound:
    """Decoded sound.

    Attributes:
        samples: mono samples from -1 to 1, float32 [n].
        sample_rate: sample rate in Hz.
        decoder: what decoded the file.
    """

    samples: Float32Array
    sample_rate: int
    decoder: Decoder

    def between(self, start: float, end: float) -> Float32Array:
        """Return the samples from ``start`` to ``end`` seconds."""
        return self.samples[round(start * self.sample_rate) : round(end * self.sample_rate)]


def decode_sound(
    media: MediaFile,
    sample_rate: int,
    max_seconds: float,
    origin: float | None = None,
) -> Sound:
    """Decode the start of the first audio stream.

    Channels are averaged, the sound is resampled by soxr in high quality, and samples are clipped
    to -1 to 1, because lossy codecs exceed full scale.

    Args:
        media: the file.
        sample_rate: sample rate of the result, in Hz.
        max_seconds: longest result, in seconds.
        origin: time of the first sample of the result on the file's own clock, in seconds. Earlier
            sound is left out; if the sound starts later, silence is added before it. None: the
            result starts with the first sample of the file.

    Raises:
        MediaError: ``no_audio``, ``undecodable``, ``truncated``, ``too_large``, ``out_of_memory``,
            or a reason of opening the file.
    """
    try:
        chunks = _decode_pyav(media, max_seconds, origin)
        decoder = Decoder.PYAV
    except MediaError as error:
        if error.reason not in (Reason.UNDECODABLE, Reason.UNSUPPORTED_CONTAINER):
            raise
        fallback = read_mono(media, max_seconds)
        if fallback is None:
            raise
        chunks, decoder = [fallback], Decoder.SOUNDFILE
    samples = np.concatenate(
        [
            chunk if rate == sample_rate else soxr.resample(chunk, rate, sample_rate, "HQ")
            for rate, chunk in chunks
        ]
    )
    samples = np.clip(samples[: round(max_seconds * sample_rate)], -1.0, 1.0)
    if samples.size == 0:
        raise MediaError(Reason.UNDECODABLE, "the audio stream decodes to no samples")
    return Sound(samples.astype(np.float32, copy=False), sample_rate, decoder)


def _decode_pyav(
    media: MediaFile, max_seconds: float, origin: float | None
) -> list[tuple[int, Float32Array]]:
    """Return sample rate and mono samples of each run with one sample rate, from the origin on."""
    runs: list[tuple[int, list[Float32Array]]] = []
    packets = errors = 0
    seconds = declared = early = 0.0
    limits = media.limits
    budget = Budget(limits)
    with media.open() as demuxer:
        stream = demuxer.audio_stream
        if stream is None:
            raise MediaError(Reason.NO_AUDIO, "no audio stream with a known codec")
        stream.codec_context.thread_count = 1
        declared = declared_audio_seconds(demuxer.format_name, stream)
        try:
            for packet in demuxer.packets(stream):
                packets += 1
                try:
                    frames = packet.decode()
                except av.error.EOFError:
                    continue
                except (MemoryError, av.error.MemoryError) as error:
                    raise MediaError(Reason.OUT_OF_MEMORY, "while decoding the sound") from error
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
                    runs[-1][1].append(mix_to_mono(frame))
                    seconds += frame.samples / rate
                if seconds >= min(max_seconds + early, limits.seconds):
                    break
        except av.error.FFmpegError as error:
            if not runs:
                raise MediaError(
                    Reason.UNDECODABLE, f"the sound cannot be read: {error}"
                ) from error
            errors += 1
    if not runs:
        raise MediaError(Reason.UNDECODABLE, f"none of {packets} audio packets can be decoded")
    if errors > limits.truncated_share * packets:
        raise MediaError(Reason.TRUNCATED, f"{errors} of {packets} audio packets cannot be decoded")
    declared = min(declared, max_seconds + early, limits.seconds)
    check_missing_share(1 - seconds / declared if declared > 0 else 0.0, limits)
    whole = [(rate, np.concatenate(parts)) for rate, parts in runs]
    return _align_start(whole, early, min(max_seconds, limits.seconds))


def _align_start(
    runs: list[tuple[int, Float32Array]], early: float, longest: float
) -> list[tuple[int, Float32Array]]:
    """Remove ``early`` seconds from the start, or add silence there if ``early`` is negative."""
    if early < 0:
        rate = runs[0][0]
        return [(rate, np.zeros(round(min(-early, longest) * rate), np.float32)), *runs]
    kept = []
    for rate, samples in runs:
        kept.append((rate, samples[round(early * rate) :]))
        early = max(0.0, early - len(samples) / rate)
    return kept


def mix_to_mono(frame: av.AudioFrame) -> Float32Array:
    """Return the mean of a frame's channels, float32 [samples], at a full scale of 1."""
    channels = frame.layout.nb_channels
    # Not frame.to_ndarray(): for eight or more channels PyAV reads one plane too many and crashes,
    # and it does not support 64-bit integers.
    dtype = _SAMPLE_TYPES[frame.format.name.removesuffix("p")]
    if frame.format.is_planar:
        planes = frame.planes[:channels]
        values = np.stack([np.frombuffer(bytes(plane), dtype, frame.samples) for plane in planes])
    else:
        packed = np.frombuffer(bytes(frame.planes[0]), dtype, frame.samples * channels)
        values = packed.reshape(-1, channels).T
    if values.dtype.kind == "f":
        floats = to_finite(values)
    elif values.dtype == np.uint8:
        floats = (values.astype(np.float32) - np.float32(128)) / np.float32(128)
    else:
        floats = values.astype(np.float32) / np.float32(1 << (8 * values.itemsize - 1))
    return np.asarray(floats.mean(axis=0), np.float32)
