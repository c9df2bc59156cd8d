from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soxr

from features.arrays import Float32Array
from features.config import Limits
from features.container.media_file import MediaFile
from features.errors import MediaError, Reason
from features.sound import decode
from features.sound.decode import decode_sound, mix_to_mono
from tests.helpers.media_kinds import tone, write_sound
from tests.helpers.odd_streams import write_burst

Rendered = Callable[[str], Path]
RATE = 22_050


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("mono.wav", 1e-4),
        ("float.wav", 1e-6),
        ("bytes.wav", 1e-2),
        ("deep.wav", 1e-6),
        ("stereo.aiff", 1e-4),
        ("surround.flac", 1e-4),
        ("stereo.mp3", 0.05),
        ("stereo.m4a", 0.05),
        ("stereo.ogg", 0.05),
    ],
)
def test_sound_is_the_mean_of_the_channels_at_full_scale_one(
    name: str, loss: float, rendered: Rendered
) -> None:
    # Filter banks of encoders ring at the start and at the end.
    channels, rate = {"mono.wav": (1, 44_100), "surround.flac": (6, 48_000)}.get(name, (2, 44_100))
    if name.endswith(".ogg"):
        rate = 48_000
    truth = soxr.resample(tone(4.0, rate, channels).mean(axis=0), rate, RATE, "HQ")
    found = decode_sound(MediaFile(rendered(name)), RATE, 60.0)
    assert (found.decoder, found.sample_rate, found.samples.dtype) == ("pyav", RATE, np.float32)
    length = min(len(truth), len(found.samples))
    assert length > 3.9 * RATE
    # Some decoders add a delay of up to a few thousand samples; try every delay.
    middle = truth[RATE : 3 * RATE]
    lags = range(2500) if loss > 0.02 else range(1)
    best = min(
        float(np.sqrt(np.mean((found.samples[RATE + lag :][: len(middle)] - middle) ** 2)))
        for lag in lags
        if len(found.samples) >= 3 * RATE + lag
    )
    assert best < loss * 0.2


@pytest.mark.parametrize("codec", ["flac", "pcm_s16le"])
def test_eight_channels_do_not_crash_the_decoder(codec: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(-0.5, 0.5, (8, 4800))
    path = tmp_path / "eight.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=48_000, layout="7.1")
        packed = np.ascontiguousarray((values * 32768).astype(np.int16).T.reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(packed, "s16", "7.1")
        frame.sample_rate, frame.pts = 48_000, 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    found = decode_sound(MediaFile(path), 48_000, 1.0)
    np.testing.assert_allclose(found.samples, values.mean(axis=0), atol=1e-4)


@pytest.mark.parametrize("channels", [1, 2, 6, 8])
@pytest.mark.parametrize("name", sorted(f"{name}p" for name in decode._SAMPLE_TYPES))
def test_every_planar_format_has_the_same_scale(name: str, channels: int) -> None:
    layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}[channels]
    values = np.linspace(-0.9, 0.9, 64 * channels, dtype=np.float32).reshape(channels, 64)
    frame = av.AudioFrame(format=name, layout=layout, samples=64)
    dtype = np.dtype(decode._SAMPLE_TYPES[name.removesuffix("p")])
    for plane, row in zip(frame.planes[:channels], values, strict=True):
        if dtype.kind == "f":
            coded = row.astype(dtype)
        elif dtype == np.uint8:
            coded = (row * 128 + 128).astype(dtype)
        else:
            coded = (row.astype(np.float64) * 2.0 ** (8 * dtype.itemsize - 1)).astype(dtype)
        plane.update(coded.tobytes().ljust(plane.buffer_size, b"\0"))
    np.testing.assert_allclose(mix_to_mono(frame), values.mean(axis=0), atol=1 / 100)


def test_values_beyond_full_scale_and_not_finite_values_are_clipped(tmp_path: Path) -> None:
    loud = np.array([[0.5, 7.0, -7.0, np.inf, -np.inf, np.nan] * 100], np.float32)
    path = write_sound(tmp_path / "loud.wav", "pcm_f32le", loud, RATE)
    found = decode_sound(MediaFile(path), RATE, 1.0)
    np.testing.assert_array_equal(found.samples[:6], [0.5, 1, -1, 1, -1, 0])


def test_only_the_wanted_seconds_are_decoded(
    rendered: Rendered, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames: list[int] = []
    plain = decode.mix_to_mono

    def counting(frame: av.AudioFrame) -> Float32Array:
        frames.append(frame.samples)
        return plain(frame)

    monkeypatch.setattr(decode, "mix_to_mono", counting)
    found = decode_sound(MediaFile(rendered("stereo.mp3")), RATE, 1.5)
    assert len(found.samples) == round(1.5 * RATE)
    assert sum(frames) < 1.6 * 44_100
    part = found.between(0.5, 1.0)
    np.testing.assert_array_equal(part, found.samples[RATE // 2 : RATE])


def test_libsndfile_decodes_what_pyav_cannot_and_is_recorded(
    rendered: Rendered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An au file: no demuxer on the allow-list opens it, libsndfile does.
    path = tmp_path / "song.au"
    write_sound(path, "pcm_s16be", tone(1.0, RATE), RATE)
    found = decode_sound(MediaFile(path), RATE, 60.0)
    assert found.decoder == "soundfile"
    np.testing.assert_allclose(found.samples, tone(1.0, RATE).mean(axis=0), atol=1e-3)

    words = tmp_path / "words.mp3"
    words.write_text("no music at all " * 100)
    with pytest.raises(MediaError) as caught:
        decode_sound(MediaFile(words), RATE, 60.0)
    assert caught.value.reason in (Reason.UNSUPPORTED_CONTAINER, Reason.UNDECODABLE)


def test_files_without_sound_or_with_too_much_damage_are_rejected(
    rendered: Rendered, tmp_path: Path
) -> None:
    with pytest.raises(MediaError) as caught:
        decode_sound(MediaFile(rendered("silent.mp4")), RATE, 60.0)
    assert caught.value.reason is Reason.NO_AUDIO

    broken = tmp_path / "broken.m4a"
    shutil.copy(rendered("stereo.m4a"), broken)
    with av.open(str(broken)) as source:
        packets = [(p.pos, p.size) for p in source.demux(audio=0) if p.size]
    data = bytearray(broken.read_bytes())
    for position, size in packets[20 : 20 + len(packets) // 3]:
        data[position : position + size] = b"\xff" * size
    broken.write_bytes(data)
    with pytest.raises(MediaError) as caught:
        decode_sound(MediaFile(broken), RATE, 60.0)
    assert caught.value.reason is Reason.TRUNCATED
    assert "audio packets" in caught.value.detail
    assert (
        decode_sound(MediaFile(broken, Limits(truncated_share=0.5)), RATE, 60.0).decoder == "pyav"
    )


def test_audio_that_starts_late_is_preceded_by_silence(tmp_path: Path) -> None:
    path = write_burst(tmp_path / "late.mkv", 0, 3.0)
    found = decode_sound(MediaFile(path), 22_050, 4.0, origin=0.0)
    assert len(found.samples) == 4 * 22_050
    assert not found.between(0.0, 2.9).any()
    # A wrong origin must not fill the memory.
    short = MediaFile(path, Limits(seconds=9))
    assert decode_sound(short, 22_050, 1e6, origin=-1e9).samples.size < 20 * 22_050
