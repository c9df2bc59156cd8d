from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import pytest

from features.config import Limits
from features.container import media_file
from features.container.media_file import Demuxer, MediaFile
from features.errors import MediaError, Reason
from features.probe import Expected, probe
from features.video import opencv_fallback
from tests.helpers.media_kinds import add_sound, tone

PLAYLISTS = {
    "hls.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{target}\n#EXT-X-ENDLIST\n",
    "concat.txt": "ffconcat version 1.0\nfile '{target}'\n",
    "dash.mpd": (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
        '<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">'
        "<BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>"
    ),
    "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
    "words.srt": "1\n00:00:00,000 --> 00:00:02,000\n{target}\n",
    "picture.svg": '<svg xmlns="http://www.w3.org/2000/svg"><image href="{target}"/></svg>',
}


@pytest.mark.parametrize("suffix", ["", ".mp4"])
@pytest.mark.parametrize("name", PLAYLISTS)
def test_playlists_are_not_followed_under_any_name(
    name: str, suffix: str, rendered: Callable[[str], Path], tmp_path: Path
) -> None:
    path = tmp_path / (name + suffix)
    path.write_text(PLAYLISTS[name].format(target=rendered("h264.mp4")))
    with pytest.raises(MediaError) as caught, MediaFile(path).open():
        pass
    assert caught.value.reason is Reason.UNSUPPORTED_CONTAINER
    with pytest.raises(MediaError):
        opencv_fallback.read_timeline(MediaFile(path))
    with pytest.raises(MediaError):
        probe(MediaFile(path), Expected.ANY)


@pytest.mark.parametrize("name", ["concat:a|b", "http:host", "subfile,,start,0,end,9,,:x", "-i"])
def test_a_name_that_looks_like_a_protocol_is_a_file_name(
    name: str,
    rendered: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(rendered("h264.mp4").read_bytes())
    with MediaFile(Path(name)).open() as demuxer:
        assert demuxer.video_stream is not None


def test_a_file_is_checked_before_it_is_opened(tmp_path: Path) -> None:
    def reason(path: Path, **limits: int) -> Reason:
        with pytest.raises(MediaError) as caught:
            MediaFile(path, Limits(**limits)).check()
        return caught.value.reason

    full = tmp_path / "full"
    full.write_bytes(b"12345")
    assert MediaFile(full, Limits(bytes=5)).size == 5
    assert reason(full, bytes=4) is Reason.TOO_LARGE
    assert reason(tmp_path / "none") is Reason.MISSING
    (tmp_path / "empty").touch()
    assert reason(tmp_path / "empty") is Reason.EMPTY
    assert reason(tmp_path) is Reason.UNREADABLE
    os.mkfifo(tmp_path / "pipe")
    assert reason(tmp_path / "pipe") is Reason.UNREADABLE
    assert MediaFile(full).content_hash == hashlib.sha256(b"12345").hexdigest()


@pytest.mark.parametrize(
    ("name", "codec"), [("tagged.mp4", "aac"), ("tagged.mkv", "aac"), ("tagged.mp3", "libmp3lame")]
)
def test_a_tag_with_invalid_utf8_does_not_reject_the_file(
    name: str, codec: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    with av.open(str(path), "w") as output:
        output.metadata["title"] = "Grand Cafe"
        stream = output.add_stream(codec, rate=48_000, layout="stereo")
        stream.metadata["handler_name"] = stream.metadata["title"] = "Other Cafe"
        add_sound(output, stream, tone(1.0, 48_000))
    tagged = path.read_bytes()
    assert b"Grand Cafe" in tagged
    path.write_bytes(tagged.replace(b" Cafe", b" Caf\xe9"))
    assert probe(MediaFile(path), Expected.MUSIC).has_audio


def test_streams_are_limited(rendered: Callable[[str], Path]) -> None:
    with MediaFile(rendered("h264.mp4"), Limits(streams=1)).open():
        pass
    with (
        pytest.raises(MediaError) as caught,
        MediaFile(rendered("two_streams.mkv"), Limits(streams=1)).open(),
    ):
        pass
    assert caught.value.reason is Reason.TOO_MANY_STREAMS


def test_packets_of_a_stream_that_appears_midway_are_skipped() -> None:
    class Midway:
        """Raises an IndexError for each packet of a new stream, as PyAV does."""

        source = iter([1, 2, IndexError, 3, IndexError, IndexError, 4])

        def demux(self, stream: str) -> Iterator[int]:
            assert stream == "ours"
            for packet in self.source:
                if packet is IndexError:
                    raise IndexError("list index out of range")
                yield packet  # type: ignore[misc]

    packets = Demuxer(Midway()).packets("ours")  # type: ignore[type-var, arg-type]
    assert list(packets) == [1, 2, 3, 4]


def test_a_container_is_checked_once_however_often_it_is_opened(
    rendered: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    checks: list[Path] = []
    monkeypatch.setattr(media_file, "check_file_end", lambda path, *_: checks.append(path))
    media = MediaFile(rendered("film.mp4"))
    for _ in range(3):
        with media.open() as demuxer:
            packets = [packet.pts for packet in demuxer.packets(demuxer.video_stream)]
        # Every demuxer starts at the first packet.
        assert len(packets) == 97
    assert checks == [media.path]


def test_a_failed_check_of_the_container_is_repeated(
    rendered: Callable[[str], Path], tmp_path: Path
) -> None:
    path = tmp_path / "cut.webm"
    data = rendered("film.webm").read_bytes()
    path.write_bytes(data[: len(data) // 2])
    media = MediaFile(path)
    for _ in range(2):
        with pytest.raises(MediaError) as caught, media.open():
            pass
        assert caught.value.reason is Reason.TRUNCATED


def test_the_expected_hash_may_have_upper_case_letters(tmp_path: Path) -> None:
    path = tmp_path / "it"
    path.write_bytes(b"12345")
    expected = hashlib.sha256(b"12345").hexdigest()
    MediaFile(path).check(expected.upper())
    with pytest.raises(MediaError, match=expected) as caught:
        MediaFile(path).check("0" * 64)
    assert caught.value.reason is Reason.HASH_MISMATCH


def test_streams_are_found_past_cover_art(rendered: Callable[[str], Path]) -> None:
    with MediaFile(rendered("album.mp3")).open() as demuxer:
        assert demuxer.format_name == "mp3"
        assert demuxer.video_stream is None
        assert demuxer.audio_stream is not None
    with MediaFile(rendered("silent.mp4")).open() as demuxer:
        assert demuxer.video_stream is not None
        assert demuxer.audio_stream is None
