from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from features import Limits, MediaError, Reason
from features.container.media_file import MediaFile
from features.sound.decode import decode_sound
from features.video.sampling import sample_frames
from tests.helpers.media_kinds import MediaKind, add_sound, render, tone, write_film, write_sound

Rendered = Callable[[str], Path]


def read_video(path: Path, limits: Limits | None = None) -> None:
    sample_frames(MediaFile(path, limits), lambda timeline: {timeline.start_pts}, lambda *_: None)


def seconds_of_audio(path: Path, limits: Limits | None = None) -> float:
    sound = decode_sound(MediaFile(path, limits), 22_050, 60.0)
    return len(sound.samples) / sound.sample_rate


@pytest.mark.parametrize("share", [0.5, 0.85, 0.92])
def test_a_matroska_file_is_rejected_by_its_missing_share_of_bytes(
    rendered: Rendered, tmp_path: Path, share: float
) -> None:
    data = rendered("film.webm").read_bytes()
    path = tmp_path / "cut.webm"
    path.write_bytes(data[: round(len(data) * share)])
    missing = 1 - share
    read_video(path, Limits(truncated_share=missing + 0.01))
    with pytest.raises(MediaError, match=f"{missing:.0%} of the declared") as error:
        read_video(path, Limits(truncated_share=missing - 0.01))
    assert error.value.reason is Reason.TRUNCATED


def test_long_frames_and_a_short_audio_stream_are_not_truncation(tmp_path: Path) -> None:
    # A screen recording: its last frame is on the screen for most of the clip.
    slides = MediaKind("slides.webm", "libvpx", frames=2, pts=lambda i: 60 * i)
    one = MediaKind("one.mkv", "libx264", frames=1)
    for kind in (slides, one):
        read_video(render(kind, tmp_path))
    longer = write_film(tmp_path / "film.mkv", 1.0)
    with av.open(str(tmp_path / "uneven.mkv"), "w") as output, av.open(str(longer)) as source:
        copies = {s.index: output.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is None or (packet.stream.type == "audio" and packet.pts > 200):
                continue
            packet.stream = copies[packet.stream.index]
            output.mux(packet)
    assert seconds_of_audio(tmp_path / "uneven.mkv") < 0.3


VIDEOS = ("h264.avi", "mpeg4.avi", "h264.flv", "wmv2.asf", "h264_fragmented.mp4")
AUDIO = {
    "audio.wav": "pcm_s16le",
    "audio.w64": "pcm_s16le",
    "audio.aiff": "pcm_s16be",
    "audio.caf": "pcm_s16be",
    "audio.wv": "wavpack",
}


@pytest.mark.parametrize("name", [*VIDEOS, *AUDIO])
def test_a_file_that_declares_its_size_is_rejected_without_its_end(
    rendered: Rendered, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    if name in AUDIO:
        data = write_sound(path, AUDIO[name], tone(8.0, 44_100), 44_100).read_bytes()
    else:
        data = rendered(name).read_bytes()
    read = seconds_of_audio if name in AUDIO else read_video
    path.write_bytes(data)
    read(path)
    for share in (0.3, 0.5, 0.7):
        path.write_bytes(data[: round(len(data) * share)])
        with pytest.raises(MediaError) as error:
            read(path)
        assert error.value.reason is Reason.TRUNCATED


def test_a_fragmented_mp4_must_end_with_a_complete_fragment(
    rendered: Rendered, tmp_path: Path
) -> None:
    data = rendered("h264_fragmented.mp4").read_bytes()
    path = tmp_path / "cut.mp4"
    last = data.rindex(b"moof") - 4
    path.write_bytes(data[:last])
    read_video(path)
    path.write_bytes(data[: last + 100])
    read_video(path, Limits(truncated_share=1.0))
    with pytest.raises(MediaError, match="inside an MP4 fragment"):
        read_video(path)


def loud_after_quiet() -> np.ndarray:
    samples = np.random.default_rng(0).normal(0, 0.2, (2, 4 * 44_100)).astype(np.float32)
    samples[:, : 2 * 44_100] = 0
    return samples


def test_the_duration_of_an_mp3_counts_only_if_its_own_header_declares_it(tmp_path: Path) -> None:
    # Without a header, FFmpeg assumes the bit rate of the first frames, which can be far off.
    for name, header in (("declared.mp3", "1"), ("estimated.mp3", "0")):
        path = tmp_path / name
        with av.open(str(path), "w", container_options={"write_xing": header}) as output:
            variable = {"flags": "+qscale", "global_quality": "236"}
            stream = output.add_stream("libmp3lame", rate=44_100, layout="stereo", options=variable)
            add_sound(output, stream, loud_after_quiet())
        with av.open(str(path)) as container:
            guess = float(container.streams[0].duration * container.streams[0].time_base)
        assert (guess > 6) == (header == "0")
        assert seconds_of_audio(path) == pytest.approx(4.0, abs=0.1)


def test_an_ogg_that_ends_inside_a_page_is_truncated(rendered: Rendered, tmp_path: Path) -> None:
    data = rendered("stereo.ogg").read_bytes()
    last = data.rindex(b"OggS")
    path = tmp_path / "cut.ogg"
    for end in (last, len(data)):
        path.write_bytes(data[:end])
        assert seconds_of_audio(path) > 0
    # A tag of another format after the last page is ignored.
    path.write_bytes(data + b"TAG" + bytes(125))
    assert seconds_of_audio(path) > 0
    for end in (last + 5, last + 26, last + 30, len(data) - 1):
        path.write_bytes(data[:end])
        with pytest.raises(MediaError, match="inside an Ogg page"):
            seconds_of_audio(path)
        assert seconds_of_audio(path, Limits(truncated_share=1.0)) > 0


def test_a_file_that_disappears_while_it_is_opened_is_unreadable(
    rendered: Rendered, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("features.container.media_file.check_file_end", gone)
    with pytest.raises(MediaError, match="No such file") as error:
        read_video(rendered("film.webm"))
    assert error.value.reason is Reason.UNREADABLE
