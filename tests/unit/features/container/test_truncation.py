from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from features import Limits, MediaError, Reason
from features.container.media_file import MediaFile
from features.container.truncation import check_file_end
from features.sound.decode import decode_sound
from features.video.sampling import sample_frames
from tests.helpers.media_kinds import MediaKind, add_sound, render, tone, write_film, write_sound

Rendered = Callable[[str], Path]


def read_pictures(path: Path, limits: Limits | None = None) -> None:
    sample_frames(MediaFile(path, limits), lambda timeline: {timeline.start_pts}, lambda *_: None)


def seconds_of_sound(path: Path, limits: Limits | None = None) -> float:
    sound = decode_sound(MediaFile(path, limits), 22_050, 60.0)
    return len(sound.samples) / sound.sample_rate


@pytest.mark.parametrize("share", [0.5, 0.85, 0.92])
def test_a_matroska_file_is_refused_by_the_share_of_bytes_that_is_gone(
    rendered: Rendered, tmp_path: Path, share: float
) -> None:
    data = rendered("film.webm").read_bytes()
    path = tmp_path / "cut.webm"
    path.write_bytes(data[: round(len(data) * share)])
    missing = 1 - share
    read_pictures(path, Limits(truncated_share=missing + 0.01))
    with pytest.raises(MediaError, match=f"{missing:.0%} of the declared") as error:
        read_pictures(path, Limits(truncated_share=missing - 0.01))
    assert error.value.reason is Reason.TRUNCATED


def test_pictures_that_stand_for_long_are_not_missing(tmp_path: Path) -> None:
    """A recording of a screen whose last picture stands for most of the clip."""
    slides = MediaKind("slides.webm", "libvpx", frames=2, pts=lambda i: 60 * i)
    one = MediaKind("one.mkv", "libx264", frames=1)
    for kind in (slides, one):
        read_pictures(render(kind, tmp_path))
    longer = write_film(tmp_path / "film.mkv", 1.0)
    with av.open(str(tmp_path / "uneven.mkv"), "w") as output, av.open(str(longer)) as source:
        copies = {s.index: output.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is None or (packet.stream.type == "audio" and packet.pts > 200):
                continue
            packet.stream = copies[packet.stream.index]
            output.mux(packet)
    assert seconds_of_sound(tmp_path / "uneven.mkv") < 0.3


FILMS = ("h264.avi", "mpeg4.avi", "h264.flv", "wmv2.asf", "h264_fragmented.mp4")
SOUNDS = {
    "sound.wav": "pcm_s16le",
    "sound.w64": "pcm_s16le",
    "sound.aiff": "pcm_s16be",
    "sound.caf": "pcm_s16be",
    "sound.wv": "wavpack",
}


@pytest.mark.parametrize("name", [*FILMS, *SOUNDS])
def test_a_file_that_says_where_it_ends_is_refused_without_its_end(
    rendered: Rendered, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    if name in SOUNDS:
        data = write_sound(path, SOUNDS[name], tone(8.0, 44_100), 44_100).read_bytes()
    else:
        data = rendered(name).read_bytes()
    read = seconds_of_sound if name in SOUNDS else read_pictures
    path.write_bytes(data)
    read(path)
    for share in (0.3, 0.5, 0.7):
        path.write_bytes(data[: round(len(data) * share)])
        with pytest.raises(MediaError) as error:
            read(path)
        assert error.value.reason is Reason.TRUNCATED


def test_of_a_fragmented_mp4_only_whole_fragments_are_taken(
    rendered: Rendered, tmp_path: Path
) -> None:
    data = rendered("h264_fragmented.mp4").read_bytes()
    path = tmp_path / "cut.mp4"
    last = data.rindex(b"moof") - 4
    path.write_bytes(data[:last])
    read_pictures(path)
    path.write_bytes(data[: last + 100])
    read_pictures(path, Limits(truncated_share=1.0))
    with pytest.raises(MediaError, match="inside an MP4 fragment"):
        read_pictures(path)


def loud_after_quiet() -> np.ndarray:
    samples = np.random.default_rng(0).normal(0, 0.2, (2, 4 * 44_100)).astype(np.float32)
    samples[:, : 2 * 44_100] = 0
    return samples


def test_of_an_mp3_only_its_own_header_is_believed(tmp_path: Path) -> None:
    """Without one, ffmpeg takes the rate of the first frames for that of all: many times off."""
    for name, header in (("told.mp3", "1"), ("untold.mp3", "0")):
        path = tmp_path / name
        with av.open(str(path), "w", container_options={"write_xing": header}) as output:
            variable = {"flags": "+qscale", "global_quality": "236"}
            stream = output.add_stream("libmp3lame", rate=44_100, layout="stereo", options=variable)
            add_sound(output, stream, loud_after_quiet())
        with av.open(str(path)) as container:
            guess = float(container.streams[0].duration * container.streams[0].time_base)
        assert (guess > 6) == (header == "0")
        assert seconds_of_sound(path) == pytest.approx(4.0, abs=0.1)


def test_an_ogg_that_ends_inside_a_page_is_cut_short(rendered: Rendered, tmp_path: Path) -> None:
    data = rendered("stereo.ogg").read_bytes()
    last = data.rindex(b"OggS")
    path = tmp_path / "cut.ogg"
    for end in (last, len(data)):
        path.write_bytes(data[:end])
        assert seconds_of_sound(path) > 0
    # A tag of another format behind it is no page.
    path.write_bytes(data + b"TAG" + bytes(125))
    assert seconds_of_sound(path) > 0
    for end in (last + 5, last + 26, last + 30, len(data) - 1):
        path.write_bytes(data[:end])
        with pytest.raises(MediaError, match="inside an Ogg page"):
            seconds_of_sound(path)
        assert seconds_of_sound(path, Limits(truncated_share=1.0)) > 0


@pytest.mark.parametrize(
    ("size", "refused"),
    [
        (b"\x81", False),  # one byte
        (b"\xff", False),  # unknown
        (b"\x01\xff\xff\xff\xff\xff\xff\xff", False),  # unknown, as live recordings write it
        (b"\x01\x00\x00\x00\x00\x00\x00\x64", False),  # 100 bytes
        (b"\x01\x00\x00\x00\x00\x00\x00\xc8", True),  # 200 bytes
        (b"\x40\xc8", True),  # the same, shorter
        (b"", False),
        (b"\x00", False),
    ],
)
def test_the_length_of_a_segment_is_read(tmp_path: Path, size: bytes, refused: bool) -> None:
    path = tmp_path / "it.mkv"
    head = b"\x1a\x45\xdf\xa3\x84" + bytes(4) + b"\x18\x53\x80\x67" + size
    path.write_bytes(head + bytes(100 if len(size) > 0 and size != b"\x00" else 0))
    if refused:
        with pytest.raises(MediaError, match=r"4\d% of"):
            check_file_end(path, "matroska,webm", Limits())
    else:
        check_file_end(path, "matroska,webm", Limits())


def riff(size: int, data: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", size) + data


def flv(size: float) -> bytes:
    return b"FLV\1\0\x08filesize\0" + struct.pack(">d", size)


def asf(size: int, flags: int) -> bytes:
    identifier = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
    return bytes(30) + identifier + struct.pack("<Q16xQ40xI", 104, size, flags) + bytes(12)


def caf(size: int) -> bytes:
    chunks = b"desc" + struct.pack(">q", 32) + bytes(32) + b"data" + struct.pack(">q", size)
    return b"caff\0\1\0\0" + chunks


@pytest.mark.parametrize(
    ("container", "data", "refused"),
    [
        ("wav", riff(92, bytes(92)), False),
        ("wav", riff(192, bytes(92)), True),
        ("avi", riff(42, bytes(42)) + riff(42, bytes(42)), False),
        ("avi", riff(42, bytes(42)) + riff(142, bytes(42)), True),  # OpenDML: the second is cut
        ("wav", riff(92, bytes(92)) + b"TAG" + bytes(125), False),
        ("wav", riff(0, bytes(92)), False),
        *[("wav", riff(size, bytes(92)), False) for size in (0x7FFFF024, 1 << 31, 0xFFFFFFFF)],
        ("flv", flv(22) + bytes(2), False),
        ("flv", flv(44) + bytes(2), True),
        *[("flv", flv(size), False) for size in (0.0, -1.0, float("nan"), float("inf"))],
        ("flv", flv(22)[:-4], False),
        ("asf", asf(134, 2), False),
        ("asf", asf(268, 2), True),
        ("asf", asf(268, 3), False),  # a broadcast
        ("asf", asf(268, 2)[:110], False),
        ("w64", b"riff" + bytes(12) + struct.pack("<Q", 24), False),
        ("w64", b"riff" + bytes(12) + struct.pack("<Q", 48), True),
        ("w64", b"riff" + bytes(12) + b"\xff" * 8, False),
        ("caf", caf(50) + bytes(50), False),
        ("caf", caf(150) + bytes(50), True),
        ("caf", caf(-1) + bytes(50), False),
        ("caf", caf(0) + bytes(50), False),
        ("caf", caf(50)[:-12], False),
        ("caf", b"caff\0\1\0\0" + (b"desc" + struct.pack(">q", -12)) * 9, False),
    ],
)
def test_sizes_in_headers_are_believed_unless_they_stand_for_unknown(
    tmp_path: Path, container: str, data: bytes, refused: bool
) -> None:
    path = tmp_path / "it"
    path.write_bytes(data)
    if refused:
        with pytest.raises(MediaError) as error:
            check_file_end(path, container, Limits())
        assert error.value.reason is Reason.TRUNCATED
    else:
        check_file_end(path, container, Limits())


def test_a_file_that_starts_otherwise_promises_nothing(tmp_path: Path) -> None:
    path = tmp_path / "it.mkv"
    path.write_bytes(tone(0.1, 8000).tobytes())
    check_file_end(path, "matroska,webm", Limits())


def test_a_file_that_goes_away_while_it_is_opened_is_unreadable(
    rendered: Rendered, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("features.container.media_file.check_file_end", gone)
    with pytest.raises(MediaError, match="No such file") as error:
        read_pictures(rendered("film.webm"))
    assert error.value.reason is Reason.UNREADABLE
