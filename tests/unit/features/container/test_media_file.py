from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import pytest

from features.config import Limits
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
def test_playlists_are_not_followed_whatever_their_name(
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
def test_a_name_like_a_protocol_is_a_name(
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
def test_a_tag_that_is_no_utf8_costs_nothing(name: str, codec: str, tmp_path: Path) -> None:
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


def test_streams_are_counted(rendered: Callable[[str], Path]) -> None:
    with MediaFile(rendered("h264.mp4"), Limits(streams=1)).open():
        pass
    with (
        pytest.raises(MediaError) as caught,
        MediaFile(rendered("two_streams.mkv"), Limits(streams=1)).open(),
    ):
        pass
    assert caught.value.reason is Reason.TOO_MANY_STREAMS


def test_packets_of_a_stream_that_appears_midway_are_passed_over() -> None:
    class Midway:
        """As PyAV does: an IndexError for each packet of a stream it has not seen before."""

        source = iter([1, 2, IndexError, 3, IndexError, IndexError, 4])

        def demux(self, stream: str) -> Iterator[int]:
            assert stream == "ours"
            for packet in self.source:
                if packet is IndexError:
                    raise IndexError("list index out of range")
                yield packet  # type: ignore[misc]

    packets = Demuxer(Midway()).packets("ours")  # type: ignore[type-var, arg-type]
    assert list(packets) == [1, 2, 3, 4]


def test_importing_the_package_loads_no_decoder_and_no_network() -> None:
    code = (
        "import sys, features, features.workers.pool;"
        "heavy = {'av', 'cv2', 'librosa', 'onnxruntime', 'torch', 'scipy'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_worker_for_pictures_loads_nothing_for_sound() -> None:
    code = (
        "import sys, features.workers.worker;"
        "sys.exit(', '.join({'librosa', 'scipy', 'torch'} & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
