from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from features.container.media_file import MediaFile
from features.errors import MediaError, Reason
from features.probe import Expected, probe
from features.results import Decoder
from features.sound import decode, sndfile_fallback
from features.sound.decode import decode_sound
from features.sound.sndfile_fallback import open_sound, read_mono
from tests.helpers.media_kinds import tone

Rendered = Callable[[str], Path]
RATE = 22_050


@pytest.mark.parametrize(
    ("form", "is_allowed"),
    [
        *((form, True) for form in ("AIFF", "AU", "CAF", "FLAC", "OGG", "RF64", "W64", "WAV")),
        *((form, False) for form in ("MAT4", "MAT5", "VOC", "SD2", "IRCAM", "NIST", "PAF", "PVF")),
    ],
)
def test_only_formats_on_the_list_are_opened(form: str, is_allowed: bool, tmp_path: Path) -> None:
    path = tmp_path / f"song.{form.lower()}"
    soundfile.write(path, tone(0.5, RATE).T, RATE, format=form)
    with open_sound(MediaFile(path)) as found:
        assert (found is not None) == is_allowed
    if is_allowed:
        rate, samples = read_mono(MediaFile(path), 9.0) or (0, np.zeros(0))
        assert rate == RATE
        np.testing.assert_allclose(samples, tone(0.5, RATE).mean(axis=0), atol=0.02)


def test_a_second_file_of_a_format_is_not_opened(tmp_path: Path) -> None:
    """Sound Designer II keeps its header in a second file, the resource fork."""
    path = tmp_path / "song.sd2"
    soundfile.write(path, tone(0.5, RATE).T, RATE, format="SD2")
    assert (tmp_path / "._song.sd2").exists()
    for read in (
        lambda: decode_sound(MediaFile(path), RATE, 9.0),
        lambda: probe(MediaFile(path), Expected.MUSIC),
    ):
        with pytest.raises(MediaError) as caught:
            read()
        assert caught.value.reason is Reason.UNSUPPORTED_CONTAINER


@pytest.mark.parametrize("name", ["words.raw", "words.mp3", "words", "a.wav"])
def test_a_file_without_sound_gives_none_and_leaves_no_file_open(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"RIFF" + b"no music at all " * 100)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        assert read_mono(MediaFile(path), 9.0) is None
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_file_shorter_than_its_header_declares_is_truncated(tmp_path: Path) -> None:
    path = tmp_path / "cut.flac"
    soundfile.write(path, tone(4.0, RATE).T, RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(MediaError) as caught:
        read_mono(MediaFile(path), 9.0)
    assert caught.value.reason is Reason.TRUNCATED


def test_both_decoders_return_the_same_samples(
    rendered: Rendered, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = decode_sound(MediaFile(rendered("surround.flac")), RATE, 9.0)

    def refuse(*_: object) -> None:
        raise MediaError(Reason.UNDECODABLE, "no decoder")

    monkeypatch.setattr(decode, "_decode_pyav", refuse)
    monkeypatch.setattr(sndfile_fallback, "_BLOCK_FRAMES", 1000)
    second = decode_sound(MediaFile(rendered("surround.flac")), RATE, 9.0)
    assert second.decoder is Decoder.SOUNDFILE
    np.testing.assert_allclose(second.samples, first.samples, atol=1e-4)
