"""The process in which files are decoded: reads jobs from stdin, writes results to stdout.

Started by ``features.workers.pool`` as ``python -m features.workers.worker``. It imports no torch.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av.error
import av.logging

from features.config import AudioConfig, Limits, VisualConfig
from features.container.media_file import MediaFile
from features.errors import MediaError, Reason
from features.probe import Expected, probe
from features.results import (
    AudioFeatures,
    ClipFeatures,
    MediaInfo,
    ResultError,
    VisualFeatures,
)
from features.video.extractor import VisualExtractor
from features.workers import protocol, sandbox
from features.workers.job import JobKind

if TYPE_CHECKING:
    from features.sound.extractor import AudioExtractor

_EXPECTED: dict[JobKind, Expected] = {
    JobKind.PROBE: Expected.ANY,
    JobKind.PROBE_VIDEO: Expected.VIDEO,
    JobKind.PROBE_MUSIC: Expected.MUSIC,
}
# What is true of a file whatever its bytes, or asks for a hash in vain.
_OF_THE_FILE = (Reason.MISSING, Reason.UNREADABLE, Reason.HASH_MISMATCH)
# A file that went away, or whose disk did, after it was checked.
_GONE = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENOTDIR)


class Worker:
    """Answers jobs, one at a time."""

    def __init__(
        self, limits: Limits, visual: VisualConfig | None, audio: AudioConfig | None
    ) -> None:
        self.limits = limits
        self.visual = VisualExtractor(visual) if visual else None
        self.audio = _audio_extractor(audio) if audio else None

    def answer(self, job: dict[str, Any]) -> MediaInfo | ClipFeatures | MediaError:
        """Return what a job gives; a file that cannot be used gives a MediaError."""
        try:
            return self._work(job)
        except MediaError as error:
            return _of_these_bytes(error, job)
        except MemoryError:
            return sandbox.out_of_memory(self.limits)
        except av.error.FFmpegError as error:
            return _of_these_bytes(MediaError(Reason.UNDECODABLE, f"ffmpeg: {error}"), job)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return MediaError(Reason.UNREADABLE, f"while it was read: {error.strerror}")
        except ResultError as error:
            return MediaError(Reason.UNDECODABLE, str(error))

    def _work(self, job: dict[str, Any]) -> MediaInfo | ClipFeatures:
        media = MediaFile(possible_path(job["path"]), self.limits)
        kind = JobKind(job["kind"])
        if kind in _EXPECTED:
            return probe(media, _EXPECTED[kind], job["content_hash"])
        start = time.process_time()
        media.check(job["content_hash"])
        visual: tuple[VisualFeatures, ...] = ()
        audio: tuple[AudioFeatures, ...] = ()
        spans = [(a, b) for a, b in job["segments"]]
        if kind in (JobKind.VIDEO, JobKind.SEGMENTS):
            assert self.visual is not None
            visual = tuple(self.visual.extract(media, spans if kind is JobKind.SEGMENTS else None))
        if kind in (JobKind.MUSIC, JobKind.SEGMENTS):
            assert self.audio is not None
            audio = tuple(self._sound(media, spans, visual))
        return ClipFeatures(visual, audio, time.process_time() - start)

    def _sound(
        self, media: MediaFile, spans: list[tuple[float, float]], visual: tuple[VisualFeatures, ...]
    ) -> list[AudioFeatures]:
        assert self.audio is not None
        if not visual:
            return list(self.audio.extract(media))
        try:
            # Spans count from the first frame, and sound may start before or after it.
            return list(self.audio.extract(media, spans, visual[0].origin))
        except MediaError as error:
            if error.reason is Reason.NO_AUDIO:
                return []
            raise


def possible_path(text: str) -> Path:
    """Return a path; one that holds a zero byte or is no Unicode names no file.

    Raises:
        MediaError: missing.
    """
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        raise MediaError(Reason.MISSING, f"no path that can be: {error}") from error
    if "\0" in text:
        raise MediaError(Reason.MISSING, "no path that can be: it holds a zero byte")
    return Path(text)


def _of_these_bytes(error: MediaError, job: dict[str, Any]) -> MediaError:
    """Return the error, unless the file changed meanwhile and it is about other bytes.

    What is said of a content is believed for good.
    """
    promised = job["content_hash"]
    if promised is None or error.reason in _OF_THE_FILE:
        return error
    try:
        # A new MediaFile reads the file again.
        MediaFile(Path(job["path"])).check_hash(promised)
    except MediaError as change:
        return MediaError(change.reason, f"it changed while it was read: {change.detail}")
    return error


def _audio_extractor(audio: AudioConfig) -> AudioExtractor:
    # Its libraries take longer to load than all others: a worker for pictures goes without.
    from features.sound.extractor import AudioExtractor

    return AudioExtractor(audio)


def main() -> None:
    """Confine this process, then answer jobs until stdin ends."""
    # What libraries print must not land between messages.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    av.logging.set_level(None)
    setup = protocol.read_message(sys.stdin.buffer)
    if setup is None:
        return
    sandbox.die_with_parent(setup["parent"])
    sandbox.leave_network()
    limits = Limits.model_validate(setup["limits"])
    worker = Worker(
        limits,
        VisualConfig.model_validate(setup["visual"]) if setup["visual"] else None,
        AudioConfig.model_validate(setup["audio"]) if setup["audio"] else None,
    )
    walls = sandbox.confine(limits)
    out.write(protocol.pack({"type": "ready"}))
    out.flush()
    while (job := protocol.read_message(sys.stdin.buffer)) is not None:
        out.write(protocol.pack({"type": "taken"}))
        out.flush()
        walls.begin_file()
        out.write(_message(worker.answer(job), walls))
        out.flush()


def _message(result: MediaInfo | ClipFeatures | MediaError, walls: sandbox.Sandbox) -> bytes:
    """Return the message for a result; one that does not fit becomes an error."""
    try:
        return protocol.pack_result(result, worn=walls.is_worn())
    except protocol.WireError as error:
        return protocol.pack_result(MediaError(Reason.TOO_LARGE, f"its features have {error}"))
    except MemoryError:
        return protocol.pack_result(sandbox.out_of_memory(walls.limits), worn=True)


if __name__ == "__main__":
    main()
