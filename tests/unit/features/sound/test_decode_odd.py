"""Decodes sound that its format allows and that hardly any file has."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soxr

from features import AudioConfig, AudioExtractor
from features.arrays import Float32Array
from features.config import Limits
from features.container.media_file import MediaFile
from features.errors import MediaError, Reason
from features.sound import decode
from features.sound.decode import decode_sound
from features.sound.sndfile_fallback import read_mono
from tests.helpers.media_kinds import tone, write_sound

Rendered = Callable[[str], Path]
RATE = 22_050


def wav(path: Path, values: np.ndarray, rate: int) -> Path:
    """Write samples [n, channels], integers or floats, without conversion."""
    channels, width = values.shape[1], values.itemsize
    code = 3 if values.dtype.kind == "f" else 1
    layout = (code, channels, rate, rate * channels * width % (1 << 32), channels * width)
    form = struct.pack("<HHIIHH", *layout, 8 * width)
    data = values.tobytes()
    chunks = b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
    return path


@pytest.mark.parametrize("rate", [8000, 11_025, 96_000, 192_000])
def test_every_sample_rate_is_resampled_alike(rate: int, tmp_path: Path) -> None:
    found = decode_sound(MediaFile(wav(tmp_path / "a.wav", tone(2.0, rate, 2).T, rate)), RATE, 9.0)
    truth = soxr.resample(tone(2.0, rate, 2).mean(axis=0), rate, RATE, "HQ")
    np.testing.assert_allclose(found.samples, truth, atol=1e-5)
    assert len(found.samples) == pytest.approx(2 * RATE, abs=1)


@pytest.mark.parametrize("codec", ["pcm_s16le", "wavpack"])
def test_two_dozen_channels_are_averaged(codec: str, tmp_path: Path) -> None:
    values = (np.random.default_rng(0).uniform(-0.5, 0.5, (4800, 24)) * 32768).astype(np.int16)
    path = wav(tmp_path / "many.wav", values, 48_000)
    if codec == "wavpack":
        path = tmp_path / "many.wv"
        with av.open(str(path), "w") as output:
            stream = output.add_stream(codec, rate=48_000, layout="24 channels")
            stream.codec_context.format = "s16p"
            frame = av.AudioFrame(format="s16p", layout="24 channels", samples=len(values))
            for plane, channel in zip(frame.planes[:24], values.T, strict=True):
                plane.update(channel.tobytes().ljust(plane.buffer_size, b"\0"))
            frame.sample_rate, frame.pts = 48_000, 0
            output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    found = decode_sound(MediaFile(path), 48_000, 1.0)
    np.testing.assert_allclose(found.samples, values.mean(axis=1) / 32768, atol=1e-4)


def test_whole_numbers_of_64_bits_are_read(tmp_path: Path) -> None:
    values = tone(0.5, RATE, 2).T
    path = wav(tmp_path / "long.wav", (values * 2.0**62).astype(np.int64), RATE)
    found = decode_sound(MediaFile(path), RATE, 1.0)
    np.testing.assert_allclose(found.samples, values.mean(axis=1) / 2, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_value_that_is_not_finite_spoils_only_its_moment(dtype: type, tmp_path: Path) -> None:
    values = tone(2.0, 44_100, 2).T.astype(dtype)
    truth = soxr.resample(values.mean(axis=1).astype(np.float32), 44_100, RATE, "HQ")
    values[22_050] = np.nan
    values[22_060, 0] = np.inf
    values[22_070, 1] = -np.inf
    values[22_080] = np.finfo(dtype).max, np.finfo(dtype).min
    found = decode_sound(MediaFile(wav(tmp_path / "odd.wav", values, 44_100)), RATE, 9.0)
    assert np.abs(found.samples).max() <= 1
    far = np.abs(np.arange(len(truth)) - RATE / 2) > 2000
    np.testing.assert_allclose(found.samples[far], truth[far], atol=1e-3)


def test_sample_rate_and_channels_may_change_within_a_file(tmp_path: Path) -> None:
    parts = [(1, 22_050), (2, 44_100), (2, 32_000), (1, 44_100)]
    path = tmp_path / "joined.aac"
    joined = b""
    for channels, rate in parts:
        part = write_sound(tmp_path / "part.aac", "aac", tone(1.0, rate, channels), rate)
        joined += part.read_bytes()
    path.write_bytes(joined)
    found = decode_sound(MediaFile(path), RATE, 9.0)
    assert len(found.samples) == pytest.approx(4 * RATE, rel=0.1)
    seconds = found.samples[: len(found.samples) // 4 * 4].reshape(4, -1)
    assert np.sqrt((seconds**2).mean(axis=1)).min() > 0.03


@pytest.mark.parametrize("rate", [1, 999, 800_000, (1 << 31) - 1])
def test_an_implausible_sample_rate_is_rejected(rate: int, tmp_path: Path) -> None:
    path = wav(tmp_path / "slow.wav", np.zeros((60_000, 1), np.int16), rate)
    for read in (
        lambda: decode_sound(MediaFile(path), RATE, 180.0),
        lambda: read_mono(MediaFile(path), 180.0),
    ):
        with pytest.raises(MediaError) as caught:
            read()
        assert caught.value.reason in (Reason.UNDECODABLE, Reason.UNSUPPORTED_CONTAINER)


def test_decoded_sound_counts_towards_its_limit(rendered: Rendered) -> None:
    for read in (
        lambda limits: decode_sound(MediaFile(rendered("stereo.mp3"), limits), RATE, 9.0),
        lambda limits: read_mono(MediaFile(rendered("mono.wav"), limits), 9.0),
    ):
        with pytest.raises(MediaError) as caught:
            read(Limits(decoded_bytes=300_000))
        assert caught.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize("count", [0, 1, 3, 100])
def test_very_short_sound_gives_features_or_a_reason(count: int, tmp_path: Path) -> None:
    path = wav(tmp_path / "short.wav", np.full((count, 2), 9000, np.int16), 44_100)
    extractor = AudioExtractor(AudioConfig(blocks=("timbre", "rhythm", "harmony")))
    if count == 0:
        with pytest.raises(MediaError) as caught:
            extractor.extract(MediaFile(path))
        assert caught.value.reason in (Reason.UNDECODABLE, Reason.NO_AUDIO)
    else:
        (features,) = extractor.extract(MediaFile(path))
        assert features.mel.shape[1] >= 1


def test_silence_of_any_length_gives_features(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "quiet.flac", "flac", np.zeros((1, 240 * 8000), np.float32), 8000)
    (features,) = AudioExtractor(AudioConfig(blocks=("timbre",))).extract(MediaFile(path))
    assert np.isfinite(features.embedding).all()


def test_extreme_start_times_do_not_decode_for_ever(
    rendered: Rendered, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = decode_sound(MediaFile(rendered("stereo.m4a")), RATE, 1.0, origin=-1e15)
    assert not found.samples.any()
    samples: list[int] = []
    plain = decode.mix_to_mono

    def counting(frame: av.AudioFrame) -> Float32Array:
        samples.append(frame.samples)
        return plain(frame)

    monkeypatch.setattr(decode, "mix_to_mono", counting)
    with pytest.raises(MediaError) as caught:
        decode_sound(MediaFile(rendered("stereo.m4a"), Limits(seconds=2)), RATE, 1.0, origin=1e15)
    assert caught.value.reason is Reason.UNDECODABLE
    assert sum(samples) < 2.2 * 44_100
