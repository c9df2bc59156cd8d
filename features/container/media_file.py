"""Opening a media file so that nothing but that file is ever read."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import av
import av.error

from features.config import Limits
from features.container.truncation import check_end
from features.errors import MediaError, Reason

Stream = TypeVar("Stream", av.VideoStream, av.AudioStream)

# Demuxers that read one file and follow no reference to another. Playlists (hls, dash,
# concat), subtitles, pictures and raw streams are absent on purpose.
DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,avi,caf,eac3,flac,flv,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,"
    "mp3,mpeg,mpegts,ogg,wav,w64,wv"
)
_FIRST_BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"sidx", b"free", b"skip", b"wide")
_OPTIONS = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}


def check_file(path: Path, limits: Limits) -> int:
    """Return the size of a regular file in bytes.

    Raises:
        MediaError: missing, unreadable, empty or too_large.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise MediaError(Reason.MISSING, f"{path.name} does not exist") from None
    except OSError as error:
        raise MediaError(Reason.UNREADABLE, f"{path.name}: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(Reason.UNREADABLE, f"{path.name} is no regular file")
    if status.st_size == 0:
        raise MediaError(Reason.EMPTY, f"{path.name} has zero bytes")
    if status.st_size > limits.bytes:
        raise MediaError(
            Reason.TOO_LARGE, f"{status.st_size} bytes, {limits.bytes} are allowed (limits.bytes)"
        )
    return status.st_size


def hash_file(path: Path) -> str:
    """Return the sha256 of a file's bytes as 64 hexadecimal digits.

    Raises:
        MediaError: unreadable.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MediaError(Reason.UNREADABLE, f"{path.name}: {error.strerror}") from error


def check_hash(found: str, promised: str | None) -> None:
    """Raise MediaError(hash_mismatch) when another hash was promised."""
    if promised is not None and found != promised.lower():
        raise MediaError(Reason.HASH_MISMATCH, f"sha256 is {found}, promised was {promised}")


@contextmanager
def open_media(path: Path, limits: Limits) -> Iterator[av.container.InputContainer]:
    """Open a file with the allow-list of demuxers and no protocol but ``file``.

    Raises:
        MediaError: unsupported_container, truncated, undecodable, too_many_streams or
            out_of_memory.
    """
    try:
        # The prefix keeps a name such as "concat:a" from being read as a protocol.
        # Tags are not used; what is no UTF-8 in one must not cost the file.
        container = av.open(
            f"file:{path.absolute()}", options=dict(_OPTIONS), metadata_errors="replace"
        )
    except (av.error.ArgumentError, av.error.InvalidDataError) as error:
        if _starts_with_a_box(path):
            raise MediaError(
                Reason.TRUNCATED,
                "an MP4 or MOV file without a readable index (moov): cut short, or a segment alone",
            ) from error
        raise MediaError(
            Reason.UNSUPPORTED_CONTAINER, f"no allowed demuxer opens it ({error.strerror})"
        ) from error
    except (MemoryError, av.error.MemoryError) as error:
        raise MediaError(Reason.OUT_OF_MEMORY, "while opening the container") from error
    except (av.error.FFmpegError, ValueError, OverflowError, UnicodeError) as error:
        raise MediaError(Reason.UNDECODABLE, f"the container cannot be opened: {error}") from error
    with container:
        try:
            check_end(path, container.format.name, limits)
        except OSError as error:
            raise MediaError(Reason.UNREADABLE, f"{path.name}: {error.strerror}") from error
        count = len(container.streams)
        if count > limits.streams:
            raise MediaError(
                Reason.TOO_MANY_STREAMS,
                f"{count} streams, {limits.streams} are allowed (limits.streams)",
            )
        yield container


def _starts_with_a_box(path: Path) -> bool:
    """Return whether a file starts as ISO/IEC 14496-12 media do: a length, then a known type."""
    with path.open("rb") as file:
        return file.read(8)[4:] in _FIRST_BOXES


def read_packets(
    container: av.container.InputContainer, stream: Stream
) -> Iterator[av.Packet[Stream]]:
    """Yield the packets of a stream, the last one empty.

    Raises:
        av.error.FFmpegError: the demuxer cannot read on.
    """
    while True:
        try:
            yield from container.demux(stream)
        except IndexError:
            # PyAV fails at a packet of a stream that appears midway; the next one may be ours.
            continue
        return


def picture_stream(container: av.container.InputContainer) -> av.video.stream.VideoStream | None:
    """Return the first stream of moving pictures; cover art does not count."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    return None


def sound_stream(container: av.container.InputContainer) -> av.audio.stream.AudioStream | None:
    """Return the first stream of sound that has a decoder."""
    for stream in container.streams.audio:
        if stream.codec_context is not None:
            return stream
    return None
