"""Opens media files so that FFmpeg reads the named file and no other."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import av
import av.error

from features.config import Limits
from features.container.truncation import check_file_end
from features.errors import MediaError, Reason

Stream = TypeVar("Stream", av.VideoStream, av.AudioStream)

# Demuxers that read one file and follow no reference to another. Playlists (hls, dash,
# concat), subtitles, images and raw streams are left out on purpose.
DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,avi,caf,eac3,flac,flv,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,"
    "mp3,mpeg,mpegts,ogg,wav,w64,wv"
)
_OPTIONS = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
_FIRST_BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"sidx", b"free", b"skip", b"wide")


@dataclass(frozen=True)
class Demuxer:
    """An open container, positioned at its first packet.

    Attributes:
        container: PyAV's container.
    """

    container: av.container.InputContainer

    @property
    def format_name(self) -> str:
        """FFmpeg's name of the container format, such as ``matroska,webm``."""
        return self.container.format.name

    @property
    def video_stream(self) -> av.VideoStream | None:
        """The first video stream that is no cover art."""
        for stream in self.container.streams.video:
            if not stream.disposition & av.stream.Disposition.attached_pic:
                return stream
        return None

    @property
    def audio_stream(self) -> av.AudioStream | None:
        """The first audio stream for which there is a decoder."""
        for stream in self.container.streams.audio:
            if stream.codec_context is not None:
                return stream
        return None

    def packets(self, stream: Stream) -> Iterator[av.Packet[Stream]]:
        """Yield the packets of a stream; the last one is empty and flushes the decoder.

        Raises:
            av.error.FFmpegError: the demuxer cannot read on.
        """
        while True:
            try:
                yield from self.container.demux(stream)
            except IndexError:
                # PyAV raises it for a packet of a stream that appears midway. Later packets
                # may belong to our stream.
                continue
            return


class MediaFile:
    """A media file and the checks that it has passed.

    Create one per job and hand it from stage to stage (probe, scan, decode): each check then
    runs once, however often the file is opened.

    Attributes:
        path: the file.
        limits: the limits of one file.

    Example:
        >>> media = MediaFile(Path("clip.mp4"))
        >>> with media.open() as demuxer:
        ...     print(demuxer.format_name, demuxer.video_stream)
    """

    def __init__(self, path: Path, limits: Limits | None = None) -> None:
        self.path = path
        self.limits = limits or Limits()
        self._container_checked = False

    def __repr__(self) -> str:
        return f"MediaFile({str(self.path)!r})"

    @cached_property
    def size(self) -> int:
        """Size of the file in bytes.

        Raises:
            MediaError: missing, unreadable, empty or too_large.
        """
        try:
            status = self.path.stat()
        except FileNotFoundError:
            raise MediaError(Reason.MISSING, f"{self.path.name} does not exist") from None
        except OSError as error:
            raise self._unreadable(error) from error
        if not stat.S_ISREG(status.st_mode):
            raise MediaError(Reason.UNREADABLE, f"{self.path.name} is not a regular file")
        if status.st_size == 0:
            raise MediaError(Reason.EMPTY, f"{self.path.name} has zero bytes")
        if status.st_size > self.limits.bytes:
            raise MediaError(
                Reason.TOO_LARGE,
                f"{status.st_size} bytes; {self.limits.bytes} are allowed (limits.bytes)",
            )
        return status.st_size

    @cached_property
    def content_hash(self) -> str:
        """sha256 of the file's bytes, 64 hexadecimal digits.

        Raises:
            MediaError: unreadable.
        """
        try:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise self._unreadable(error) from error

    def check(self, expected_hash: str | None = None) -> None:
        """Check the size and, if one is expected, the sha256, without opening a container.

        Raises:
            MediaError: missing, unreadable, empty, too_large or hash_mismatch.
        """
        _ = self.size  # Reading it checks it.
        if expected_hash is not None:
            self.check_hash(expected_hash)

    def check_hash(self, expected: str) -> None:
        """Raise MediaError(hash_mismatch) if the file does not have the expected sha256."""
        if self.content_hash != expected.lower():
            raise MediaError(
                Reason.HASH_MISMATCH,
                f"sha256 is {self.content_hash}; expected was {expected}",
            )

    @contextmanager
    def open(self) -> Iterator[Demuxer]:
        """Open the container with the allow-list of demuxers and no protocol but ``file``.

        Each call starts a new demuxer: seeking back in a used one can give other packets.

        Raises:
            MediaError: unsupported_container, truncated, undecodable, too_many_streams,
                out_of_memory, or a reason of ``check``.
        """
        self.check()
        with self._open_container() as container:
            if not self._container_checked:
                self._check_container(container)
                self._container_checked = True
            yield Demuxer(container)

    def _open_container(self) -> av.container.InputContainer:
        try:
            # The prefix keeps a name such as "concat:a" from being read as a protocol. Tags
            # are not used, so one with invalid UTF-8 must not reject the file.
            return av.open(
                f"file:{self.path.absolute()}", options=dict(_OPTIONS), metadata_errors="replace"
            )
        except (av.error.ArgumentError, av.error.InvalidDataError) as error:
            if self._starts_with_box():
                raise MediaError(
                    Reason.TRUNCATED,
                    "an MP4 or MOV file without a readable index (moov): "
                    "it is cut short, or only a segment",
                ) from error
            raise MediaError(
                Reason.UNSUPPORTED_CONTAINER, f"no allowed demuxer opens it ({error.strerror})"
            ) from error
        except (MemoryError, av.error.MemoryError) as error:
            raise MediaError(Reason.OUT_OF_MEMORY, "while opening the container") from error
        except (av.error.FFmpegError, ValueError, OverflowError, UnicodeError) as error:
            raise MediaError(
                Reason.UNDECODABLE, f"the container cannot be opened: {error}"
            ) from error

    def _check_container(self, container: av.container.InputContainer) -> None:
        try:
            check_file_end(self.path, container.format.name, self.limits)
        except OSError as error:
            raise self._unreadable(error) from error
        count = len(container.streams)
        if count > self.limits.streams:
            raise MediaError(
                Reason.TOO_MANY_STREAMS,
                f"{count} streams; {self.limits.streams} are allowed (limits.streams)",
            )

    def _starts_with_box(self) -> bool:
        """Return whether the file starts with a box of ISO/IEC 14496-12: a length, then a type."""
        with self.path.open("rb") as file:
            return file.read(8)[4:] in _FIRST_BOXES

    def _unreadable(self, error: OSError) -> MediaError:
        return MediaError(Reason.UNREADABLE, f"{self.path.name}: {error.strerror}")
