"""The table of damaged and odd files in docs/media.md: one job per row and use."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from features import (
    AudioConfig,
    ClipFeatures,
    Job,
    JobKind,
    Limits,
    MediaError,
    MediaPool,
    VisualConfig,
)
from tests.helpers.media_kinds import add_sound, tone, write_film

Rendered = Callable[[str], Path]
Make = Callable[[Rendered], bytes]

PAGE = Path(__file__).parents[4] / "docs" / "media.md"


def whole(name: str) -> Make:
    return lambda rendered: rendered(name).read_bytes()


def cut(name: str, share: float) -> Make:
    def make(rendered: Rendered) -> bytes:
        data = rendered(name).read_bytes()
        return data[: round(len(data) * share)]

    return make


def wiped(name: str, share: float) -> Make:
    """Overwrite a share of the packets of each stream with zeros, in the middle."""

    def make(rendered: Rendered) -> bytes:
        data = bytearray(rendered(name).read_bytes())
        with av.open(str(rendered(name))) as source:
            packets = [(p.stream_index, p.pos, p.size) for p in source.demux() if p.size]
        for index in {stream for stream, *_ in packets}:
            own = [(pos, size) for stream, pos, size in packets if stream == index]
            for pos, size in own[len(own) // 4 :][: round(share * len(own))]:
                data[pos : pos + size] = bytes(size)
        return bytes(data)

    return make


def boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return (type, bytes) of the outermost boxes of an ISO media file."""
    found = []
    while data:
        length = int.from_bytes(data[:4], "big")
        found.append((data[4:8], data[:length]))
        data = data[length:]
    return found


def only_boxes(name: str, *kinds: bytes) -> Make:
    def make(rendered: Rendered) -> bytes:
        parts = boxes(rendered(name).read_bytes())
        return b"".join(box for kind, box in parts if kind in kinds)

    return make


def with_unknown_boxes(name: str, *marks: bytes) -> Make:
    """Give boxes of the index an unknown type."""

    def make(rendered: Rendered) -> bytes:
        data = rendered(name).read_bytes()
        for mark in marks:
            assert data.count(mark) == 1
            data = data.replace(mark, b"zzzz\0")
        return data

    return make


def eight_channels(rendered: Rendered) -> bytes:
    path = rendered("film.mp4").with_name("eight.flac")
    samples = (tone(1.0, 48_000, 8) * 32767).astype(np.int16)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("flac", rate=48_000, layout="7.1")
        packed = np.ascontiguousarray(samples.T.reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(packed, "s16", "7.1")
        frame.sample_rate, frame.pts = 48_000, 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path.read_bytes()


def shortened(make: Make, share: float) -> Make:
    def shorter(rendered: Rendered) -> bytes:
        data = make(rendered)
        return data[: round(len(data) * share)]

    return shorter


def video_file(name: str, sound_codec: str = "aac", **options: str) -> Make:
    """Write video and audio into the container of the file name's suffix."""

    def make(rendered: Rendered) -> bytes:
        codec = "libvpx" if name.endswith(".webm") else "libx264"
        path = rendered("film.mp4").with_name(name)
        return write_film(path, 4.0, codec, sound_codec, container=options).read_bytes()

    return make


def without_xing(rendered: Rendered) -> bytes:
    """Write MP3 without the header (Xing) that declares its length."""
    path = rendered("film.mp4").with_name("without_xing.mp3")
    with av.open(str(path), "w", container_options={"write_xing": "0"}) as output:
        stream = output.add_stream("libmp3lame", rate=44_100, layout="stereo")
        add_sound(output, stream, tone(4.0, 44_100))
    return path.read_bytes()


def before_last_page(rendered: Rendered) -> bytes:
    data = rendered("stereo.ogg").read_bytes()
    return data[: data.rindex(b"OggS")]


def before_a_fragment(rendered: Rendered) -> bytes:
    data = video_file("pieces.mp4", movflags="frag_every_frame+empty_moov")(rendered)
    return data[: data.index(b"moof", len(data) // 2) - 4]


fast_start = video_file("fast.mp4", movflags="faststart")
FRAGMENTED = "h264_fragmented.mp4"
KINDS: dict[str, Make] = {
    "an empty file": lambda _: b"",
    "text under any name": lambda _: b"no pictures and no sound\n" * 200,
    "random bytes": lambda _: np.random.default_rng(0).bytes(20_000),
    "a playlist (HLS, concat, DASH) that names another file": (
        lambda rendered: f"ffconcat version 1.0\nfile '{rendered('film.mp4')}'\n".encode()
    ),
    "WebM with the suffix of MP4": whole("film.webm"),
    "moving picture only": whole("silent.mp4"),
    "sound only": whole("stereo.m4a"),
    "sound with cover art": whole("album.mp3"),
    "a single frame": whole("h264_one_frame.mp4"),
    "eight channels of sound": eight_channels,
    "more streams than allowed": whole("many_streams.mkv"),
    "MP4, index at the end, cut anywhere": cut("film.mp4", 0.9),
    "MP4, index first, the last 5 % cut off": shortened(fast_start, 0.95),
    "MP4, index first, second half cut off": shortened(fast_start, 0.5),
    "MP4 in fragments, cut inside one": cut(FRAGMENTED, 0.5),
    "MP4 in fragments, cut between two": before_a_fragment,
    "WebM or Matroska, the last 5 % cut off": cut("film.webm", 0.95),
    "WebM or Matroska, second half cut off": cut("film.webm", 0.5),
    "WebM recorded live, second half cut off": shortened(
        video_file("live.webm", "libopus", live="1"), 0.5
    ),
    "AVI, second half cut off": shortened(video_file("film.avi", "libmp3lame"), 0.5),
    "FLV, second half cut off": shortened(video_file("film.flv"), 0.5),
    "FLV recorded live, second half cut off": shortened(
        video_file("live.flv", flvflags="no_duration_filesize"), 0.5
    ),
    "ASF (WMV), second half cut off": cut("wmv2.asf", 0.5),
    "MPEG transport stream, second half cut off": shortened(video_file("film.ts"), 0.5),
    "WAV, second half cut off": cut("mono.wav", 0.5),
    "FLAC, second half cut off": cut("surround.flac", 0.5),
    "MP3, the last 5 % cut off": cut("stereo.mp3", 0.95),
    "MP3, second half cut off": cut("stereo.mp3", 0.5),
    "MP3 that does not declare its length, second half cut off": shortened(without_xing, 0.5),
    "Ogg, cut inside a page": cut("stereo.ogg", 0.5),
    "Ogg, cut between two pages": before_last_page,
    "one in twenty packets overwritten with zeros": wiped("film.mp4", 0.05),
    "half of the packets overwritten with zeros": wiped("film.mp4", 0.5),
    "a header without media (init segment)": only_boxes(FRAGMENTED, b"ftyp", b"moov"),
    "media without a header (media segment)": only_boxes(FRAGMENTED, b"moof", b"mdat"),
    "picture with an unknown codec": with_unknown_boxes("film.mp4", b"avc1\0"),
    "sound with an unknown codec": with_unknown_boxes("film.mp4", b"mp4a\0", b"esds\0"),
}


@pytest.fixture(scope="module")
def outcomes(
    rendered: Rendered, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[str, str]]:
    """Return the result of each kind of file as a video and as music."""
    folder = tmp_path_factory.mktemp("damaged")
    jobs = []
    for number, (kind, make) in enumerate(KINDS.items()):
        path = folder / f"{number}.mp4"
        path.write_bytes(make(rendered))
        jobs += [Job(f"{kind}|{job}", path, job) for job in (JobKind.VIDEO, JobKind.MUSIC)]
    with MediaPool(1, Limits(), VisualConfig(frames=2), AudioConfig()) as pool:
        found = {job.key: result for job, result in pool.run(jobs)}
        assert len(pool._processes) == 1
    words = {}
    for key, result in found.items():
        if isinstance(result, MediaError):
            words[key] = f"`{result.reason.value}`"
        else:
            assert isinstance(result, ClipFeatures)
            words[key] = "features"
    return {kind: (words[f"{kind}|video"], words[f"{kind}|music"]) for kind in KINDS}


def test_the_page_lists_the_result_of_each_kind(outcomes: dict[str, tuple[str, str]]) -> None:
    rows = re.findall(
        r"^\| (.+?) \| (features|`\w+`) \| (features|`\w+`) \|$", PAGE.read_text(), re.MULTILINE
    )
    assert {kind: (video, music) for kind, video, music in rows} == outcomes


def test_no_kind_of_file_kills_the_worker(outcomes: dict[str, tuple[str, str]]) -> None:
    words = {word for pair in outcomes.values() for word in pair}
    assert not words & {"`crashed`", "`timed_out`", "`out_of_memory`"}
