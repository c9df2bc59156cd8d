from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from features.config import Limits
from features.container.media_file import MediaFile
from features.errors import MediaError, Reason
from features.probe import Expected, probe
from tests.helpers.media_kinds import KINDS
from tests.helpers.odd_streams import write_burst

Rendered = Callable[[str], Path]


@pytest.mark.parametrize(
    "kind", [*KINDS[::4], *(k for k in KINDS if "90" in k.name)], ids=lambda kind: kind.name
)
def test_video_is_measured_by_its_shown_frames(kind: object, rendered: Rendered) -> None:
    assert isinstance(kind, type(KINDS[0]))
    path = rendered(kind.name)
    info = probe(MediaFile(path), Expected.VIDEO)
    times = kind.times()
    step = np.median(np.diff(times)) if len(times) > 1 else 1 / 24
    assert info.duration == pytest.approx(times[-1] + step, abs=0.15)
    assert info.fps == pytest.approx(len(times) / info.duration)
    assert (info.width, info.height) == kind.size
    assert (info.has_video, info.has_audio, info.audio_codec) == (True, False, "")
    assert info.content_hash == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("mono.wav", "pcm_s16le"),
        ("surround.flac", "flac"),
        ("speech.amr", "amrnb"),
        ("stereo.mp3", "mp3float"),
        ("stereo.ogg", "opus"),
        ("stereo.m4a", "aac"),
        ("album.mp3", "mp3float"),
    ],
)
def test_audio_is_measured_by_its_packets(name: str, codec: str, rendered: Rendered) -> None:
    info = probe(MediaFile(rendered(name)), Expected.MUSIC)
    assert info.duration == pytest.approx(4.0, abs=0.1)
    assert (info.has_video, info.has_audio, info.audio_codec) == (False, True, codec)
    assert (info.width, info.height, info.fps, info.video_codec) == (0, 0, 0.0, "")


def test_a_file_with_video_and_audio_is_accepted_as_either(rendered: Rendered) -> None:
    for expected in Expected:
        info = probe(MediaFile(rendered("film.webm")), expected)
        assert (info.video_codec, info.audio_codec) == ("vp8", "opus")
    with pytest.raises(MediaError, match=r"limits\.seconds"):
        probe(MediaFile(rendered("stereo.mp3"), Limits(seconds=3.9)), Expected.MUSIC)


def test_the_expected_hash_is_checked_before_the_container_is_opened(
    rendered: Rendered, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = rendered("film.mp4")
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert probe(MediaFile(path), Expected.VIDEO, expected.upper()).content_hash == expected

    def never(*_: object) -> None:
        raise AssertionError("the file was opened")

    monkeypatch.setattr(MediaFile, "open", never)
    with pytest.raises(MediaError) as caught:
        probe(MediaFile(path), Expected.VIDEO, "0" * 64)
    assert caught.value.reason is Reason.HASH_MISMATCH


def test_music_with_a_damaged_video_stream_is_accepted_as_music(
    rendered: Rendered, tmp_path: Path
) -> None:
    path = tmp_path / "broken.mp4"
    data = bytearray(rendered("film.mp4").read_bytes())
    with av.open(str(rendered("film.mp4"))) as source:
        for packet in source.demux(video=0):
            if packet.size:
                data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    path.write_bytes(data)
    info = probe(MediaFile(path), Expected.MUSIC)
    assert (info.has_video, info.has_audio, info.video_codec) == (False, True, "")
    with pytest.raises(MediaError) as caught:
        probe(MediaFile(path), Expected.VIDEO)
    assert caught.value.reason in (Reason.UNDECODABLE, Reason.TRUNCATED)


@pytest.mark.parametrize(
    ("video_start", "audio_start", "paired"),
    [(0, 0, (0, 5)), (0, 1.5, (1.5, 5)), (1.5, 0, (0, 3.5)), (0, 9, (0, 5))],
)
def test_probe_reports_the_span_with_both_video_and_audio(
    video_start: float, audio_start: float, paired: tuple[float, float], tmp_path: Path
) -> None:
    path = write_burst(tmp_path / "burst.mp4", video_start, audio_start)
    assert probe(MediaFile(path), Expected.VIDEO).paired == pytest.approx(paired, abs=0.06)
