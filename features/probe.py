"""Finds out what a file holds from its packets and the first decoded frames."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import av
import av.error
import soundfile

from features.container.budget import Budget
from features.container.media_file import Demuxer, MediaFile
from features.errors import MediaError, Reason
from features.results import MediaInfo
from features.sound.sndfile_fallback import open_sound
from features.video.sampling import sample_frames
from features.video.scaling import display_matrix, swaps_sides
from features.video.timeline import Timeline, seconds_per_tick


class Expected(StrEnum):
    """What a manifest says a file is; without it the file is rejected."""

    # Decodable video; audio is optional.
    VIDEO = "video"
    # Decodable audio; video is optional.
    MUSIC = "music"
    # Either of them.
    ANY = "any"


@dataclass(frozen=True)
class _Audio:
    """Audio stream: duration in seconds, codec, and start on the file's clock in seconds."""

    seconds: float
    codec: str
    start: float = 0.0


@dataclass
class _Contents:
    """What was found so far."""

    format_name: str = ""
    video_codec: str = ""
    audio: _Audio | None = None
    timeline: Timeline | None = None
    width: int = 0
    height: int = 0

    @property
    def video_seconds(self) -> float:
        return self.timeline.seconds if self.timeline else 0.0

    @property
    def audio_seconds(self) -> float:
        return self.audio.seconds if self.audio else 0.0


def probe(media: MediaFile, expected: Expected, expected_hash: str | None = None) -> MediaInfo:
    """Return the hash of a file and what it holds.

    Args:
        media: the file.
        expected: what the manifest says the file is.
        expected_hash: sha256 that the bytes must have, checked before a container is opened.

    Raises:
        MediaError: any reason except those of a dead decoder process.
    """
    media.check(expected_hash)
    content_hash = media.content_hash
    found = _probe_contents(media, expected)
    if expected is Expected.MUSIC and found.audio is None:
        raise MediaError(Reason.NO_AUDIO, "the file has no decodable audio stream")
    if found.timeline is None and found.audio is None:
        raise MediaError(Reason.NO_VIDEO, "the file has neither decodable video nor audio")
    if found.audio_seconds > media.limits.seconds:
        raise MediaError(
            Reason.TOO_LONG,
            f"{found.audio_seconds:.1f} s of audio; "
            f"{media.limits.seconds:g} are allowed (limits.seconds)",
        )
    timeline, seconds = found.timeline, found.video_seconds
    return MediaInfo(
        content_hash=content_hash,
        bytes=media.size,
        duration=max(seconds, found.audio_seconds),
        paired=_paired_span(found),
        width=found.width,
        height=found.height,
        fps=len(timeline.display_order) / seconds if timeline and seconds > 0 else 0.0,
        has_video=timeline is not None,
        has_audio=found.audio is not None,
        container=found.format_name,
        video_codec=found.video_codec,
        audio_codec=found.audio.codec if found.audio else "",
    )


def _probe_contents(media: MediaFile, expected: Expected) -> _Contents:
    """Probe with PyAV; if that fails and video is not needed, with libsndfile."""
    found = _Contents()
    try:
        _probe_streams(media, expected, found)
    except MediaError as error:
        if expected is Expected.VIDEO or error.reason not in (
            Reason.UNSUPPORTED_CONTAINER,
            Reason.UNDECODABLE,
        ):
            raise
        found.audio = _probe_libsndfile(media)
        if found.audio is None:
            raise
        found.format_name = found.format_name or "soundfile"
    return found


def _probe_streams(media: MediaFile, expected: Expected, found: _Contents) -> None:
    with media.open() as demuxer:
        found.format_name = demuxer.format_name
        stream = demuxer.video_stream
        if stream is not None and stream.codec_context is not None:
            found.video_codec = stream.codec_context.name
        found.audio = _probe_audio(demuxer)
    if expected is not Expected.VIDEO and stream is None:
        return
    try:
        found.timeline, found.width, found.height = _probe_video(media)
    except MediaError as error:
        if expected is Expected.VIDEO or found.audio is None:
            raise
        if error.reason not in (Reason.UNDECODABLE, Reason.NO_VIDEO):
            raise
        found.video_codec = ""


def _paired_span(found: _Contents) -> tuple[float, float]:
    """Return the span with both video and audio, in seconds from the first frame."""
    if found.timeline is None:
        return (0.0, found.audio_seconds)
    if found.audio is None:
        return (0.0, found.video_seconds)
    audio_start = found.audio.start - found.timeline.start_pts * found.timeline.time_base
    start = max(0.0, audio_start)
    end = min(found.video_seconds, audio_start + found.audio_seconds)
    return (start, end) if start < end else (0.0, found.video_seconds)


def _probe_video(media: MediaFile) -> tuple[Timeline, int, int]:
    """Return the timeline, and the upright width and height of the first decodable frame."""
    sizes: list[tuple[int, int]] = []

    def on_frame(_: int, frame: av.VideoFrame) -> None:
        size = (frame.width, frame.height)
        sizes.append(size[::-1] if swaps_sides(display_matrix(frame)) else size)

    sampled = sample_frames(media, lambda timeline: {timeline.start_pts}, on_frame)
    return sampled.timeline, *sizes[-1]


def _probe_audio(demuxer: Demuxer) -> _Audio | None:
    """Return the duration of the audio from its packets, None if no frame can be decoded."""
    stream = demuxer.audio_stream
    if stream is None:
        return None
    starts: list[float] = []
    ends: list[float] = []
    total = 0.0
    decoded = False
    base = seconds_per_tick(stream)
    try:
        for packet in demuxer.packets(stream):
            decoded = decoded or _decodes(packet)
            total += (packet.duration or 0) * base
            if packet.pts is not None:
                starts.append(packet.pts * base)
                ends.append(starts[-1] + (packet.duration or 0) * base)
    except av.error.FFmpegError as error:
        if not decoded:
            raise MediaError(Reason.UNDECODABLE, f"audio cannot be read: {error}") from error
    if not decoded:
        return None
    start = min(starts, default=0.0)
    span = max(ends) - start if ends else 0.0
    return _Audio(max(span, total), stream.codec_context.name, start)


def _decodes(packet: av.Packet[av.AudioStream]) -> bool:
    try:
        return any(frame.samples > 0 for frame in packet.decode())
    except (MemoryError, av.error.MemoryError) as error:
        raise MediaError(Reason.OUT_OF_MEMORY, "while decoding audio") from error
    except av.error.FFmpegError:
        return False


def _probe_libsndfile(media: MediaFile) -> _Audio | None:
    with open_sound(media) as sound:
        if sound is None:
            return None
        Budget(media.limits).check_sample_rate(sound.samplerate)
        try:
            if len(sound.read(1024)) == 0:
                return None
        except (soundfile.LibsndfileError, RuntimeError):
            return None
        return _Audio(len(sound) / sound.samplerate, str(sound.subtype).lower())
