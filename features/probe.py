"""Finding out what a file holds, by packets and the first decoded frame of each kind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import av.error
import soundfile

from features.config import Limits
from features.container.budget import Budget
from features.container.media_file import (
    check_file,
    check_hash,
    hash_file,
    open_media,
    picture_stream,
    read_packets,
    sound_stream,
)
from features.errors import MediaError, Reason
from features.results import MediaInfo
from features.sound.sndfile_fallback import open_sound
from features.video.sampling import sample_frames
from features.video.scaling import display_matrix
from features.video.timeline import Timeline, tick_seconds

Expected = Literal["video", "music", "any"]


@dataclass(frozen=True)
class _Sound:
    seconds: float
    codec: str
    start: float = 0.0


def probe(
    path: Path, expected: Expected, limits: Limits, promised_hash: str | None = None
) -> MediaInfo:
    """Return the hash of a file and what it holds.

    ``promised_hash`` is the sha256 that the bytes must have; it is checked before anything
    is opened as media.

    ``expected`` says what the row of the manifest promises: without a decodable picture
    (video) or sound (music) the file is rejected.

    Raises:
        MediaError: any reason but those of a dead decoder.
    """
    size = check_file(path, limits)
    content_hash = hash_file(path)
    check_hash(content_hash, promised_hash)
    container_name, picture_codec = "", ""
    sound: _Sound | None = None
    timeline: Timeline | None = None
    width = height = 0
    try:
        with open_media(path, limits) as container:
            container_name = container.format.name
            picture = picture_stream(container)
            has_picture = picture is not None
            if picture is not None and picture.codec_context is not None:
                picture_codec = picture.codec_context.name
        sound = _probe_sound(path, limits)
        if expected == "video" or has_picture:
            try:
                timeline, width, height = _probe_picture(path, limits)
            except MediaError as error:
                if expected == "video" or sound is None:
                    raise
                if error.reason not in (Reason.UNDECODABLE, Reason.NO_VIDEO):
                    raise
                timeline, picture_codec = None, ""
    except MediaError as error:
        if expected == "video" or error.reason not in (
            Reason.UNSUPPORTED_CONTAINER,
            Reason.UNDECODABLE,
        ):
            raise
        sound = _probe_libsndfile(path, limits)
        if sound is None:
            raise
        container_name = container_name or "soundfile"
    if expected == "music" and sound is None:
        raise MediaError(Reason.NO_AUDIO, "no stream of sound can be decoded")
    if timeline is None and sound is None:
        raise MediaError(Reason.NO_VIDEO, "neither picture nor sound can be decoded")
    seconds = timeline.seconds if timeline else 0.0
    sound_seconds = sound.seconds if sound else 0.0
    if sound_seconds > limits.seconds:
        raise MediaError(
            Reason.TOO_LONG,
            f"{sound_seconds:.1f} s of sound, {limits.seconds:g} are allowed (limits.seconds)",
        )
    return MediaInfo(
        content_hash=content_hash,
        bytes=size,
        duration=max(seconds, sound_seconds),
        paired=_paired(timeline, sound),
        width=width,
        height=height,
        fps=len(timeline.order) / seconds if timeline and seconds > 0 else 0.0,
        has_video=timeline is not None,
        has_audio=sound is not None,
        container=container_name,
        video_codec=picture_codec,
        audio_codec=sound.codec if sound else "",
    )


def _paired(timeline: Timeline | None, sound: _Sound | None) -> tuple[float, float]:
    """Return the seconds, from the first frame, between which there are picture and sound."""
    if timeline is None:
        return (0.0, sound.seconds if sound else 0.0)
    if sound is None:
        return (0.0, timeline.seconds)
    late = sound.start - timeline.start * timeline.time_base
    start, end = max(0.0, late), min(timeline.seconds, late + sound.seconds)
    return (start, end) if start < end else (0.0, timeline.seconds)


def _probe_picture(path: Path, limits: Limits) -> tuple[Timeline, int, int]:
    """Return when frames are shown, and the upright size of the first one that decodes."""
    sizes: list[tuple[int, int]] = []

    def receive(_: int, frame: av.VideoFrame) -> None:
        turned = display_matrix(frame)[0] == 0
        sizes.append((frame.height, frame.width) if turned else (frame.width, frame.height))

    sampled = sample_frames(path, lambda timeline: {timeline.start}, receive, limits)
    return sampled.timeline, *sizes[-1]


def _probe_sound(path: Path, limits: Limits) -> _Sound | None:
    """Return the length of the sound by its packets, if one frame of it can be decoded."""
    starts: list[float] = []
    ends: list[float] = []
    total = 0.0
    decoded = False
    with open_media(path, limits) as container:
        stream = sound_stream(container)
        if stream is None:
            return None
        base = tick_seconds(stream)
        try:
            for packet in read_packets(container, stream):
                if not decoded:
                    decoded = _decodes(packet)
                total += (packet.duration or 0) * base
                if packet.pts is not None:
                    starts.append(packet.pts * base)
                    ends.append(starts[-1] + (packet.duration or 0) * base)
        except av.error.FFmpegError as error:
            if not decoded:
                raise MediaError(Reason.UNDECODABLE, f"sound cannot be read: {error}") from error
        if not decoded:
            return None
        start = min(starts, default=0.0)
        span = max(ends) - start if ends else 0.0
        return _Sound(max(span, total), stream.codec_context.name, start)


def _decodes(packet: av.Packet[av.AudioStream]) -> bool:
    try:
        return any(frame.samples > 0 for frame in packet.decode())
    except (MemoryError, av.error.MemoryError) as error:
        raise MediaError(Reason.OUT_OF_MEMORY, "while decoding sound") from error
    except av.error.FFmpegError:
        return False


def _probe_libsndfile(path: Path, limits: Limits) -> _Sound | None:
    with open_sound(path) as sound:
        if sound is None:
            return None
        Budget(limits).check_rate(sound.samplerate)
        try:
            if len(sound.read(1024)) == 0:
                return None
        except (soundfile.LibsndfileError, RuntimeError):
            return None
        return _Sound(len(sound) / sound.samplerate, str(sound.subtype).lower())
