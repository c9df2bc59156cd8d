"""Decodes files in a process of its own: reads jobs from stdin, writes results to stdout.

``features.workers.pool`` starts it as ``python -m features.workers.worker``. It imports no torch.
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
# Errors for which re-hashing the file cannot change the outcome.
_NOT_ABOUT_CONTENT = (Reason.MISSING, Reason.UNREADABLE, Reason.HASH_MISMATCH)
# The file or its disk became unavailable after the check.
_UNAVAILABLE = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENOTDIR)


class Worker:
    """Runs jobs, one at a time."""

    def __init__(
        self, limits: Limits, visual: VisualConfig | None, audio: AudioConfig | None
    ) -> None:
        self.limits = limits
        self.visual = VisualExtractor(visual) if visual else None
        self.audio = _audio_extractor(audio) if audio else None

    def answer(self, job: dict[str, Any]) -> MediaInfo | ClipFeatures | MediaError:
        """Return the result of a job; a MediaError if the file is rejected."""
        try:
            return self._run(job)
        except MediaError as error:
            return _unless_changed(error, job)
        except MemoryError:
            return sandbox.out_of_memory_error(self.limits)
        except av.error.FFmpegError as error:
            return _unless_changed(MediaError(Reason.UNDECODABLE, f"ffmpeg: {error}"), job)
        except OSError as error:
            if error.errno not in _UNAVAILABLE:
                raise
            return MediaError(Reason.UNREADABLE, f"while the file was read: {error.strerror}")
        except ResultError as error:
            return MediaError(Reason.UNDECODABLE, str(error))

    def _run(self, job: dict[str, Any]) -> MediaInfo | ClipFeatures:
        media = MediaFile(valid_path(job["path"]), self.limits)
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
            audio = tuple(self._extract_audio(media, spans, visual))
        return ClipFeatures(visual, audio, time.process_time() - start)

    def _extract_audio(
        self, media: MediaFile, spans: list[tuple[float, float]], visual: tuple[VisualFeatures, ...]
    ) -> list[AudioFeatures]:
        assert self.audio is not None
        if not visual:
            return list(self.audio.extract(media))
        try:
            # Spans are relative to the first frame; sound may start before or after it.
            return list(self.audio.extract(media, spans, visual[0].origin))
        except MediaError as error:
            if error.reason is Reason.NO_AUDIO:
                return []
            raise


def valid_path(text: str) -> Path:
    """Return the path of a text that can name a file.

    Raises:
        MediaError: ``missing``: the text contains a zero byte or is not valid Unicode.
    """
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        raise MediaError(Reason.MISSING, f"an invalid path: {error}") from error
    if "\0" in text:
        raise MediaError(Reason.MISSING, "an invalid path: it contains a zero byte")
    return Path(text)


def _unless_changed(error: MediaError, job: dict[str, Any]) -> MediaError:
    """Return the error, or another one if the file changed while it was decoded.

    The error is stored for the file's content hash, so it must not be about other bytes.
    """
    expected_hash = job["content_hash"]
    if expected_hash is None or error.reason in _NOT_ABOUT_CONTENT:
        return error
    try:
        # A new MediaFile reads the file again.
        MediaFile(Path(job["path"])).check_hash(expected_hash)
    except MediaError as change:
        return MediaError(change.reason, f"the file changed while it was read: {change.detail}")
    return error


def _audio_extractor(audio: AudioConfig) -> AudioExtractor:
    # librosa and scipy load slowly; a worker for pictures does not need them.
    from features.sound.extractor import AudioExtractor

    return AudioExtractor(audio)


def main() -> None:
    """Confine this process, then answer jobs until stdin ends."""
    # Text that libraries print must not mix with the messages.
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
    confined = sandbox.confine(limits)
    out.write(protocol.pack({"type": "ready"}))
    out.flush()
    while (job := protocol.read_message(sys.stdin.buffer)) is not None:
        out.write(protocol.pack({"type": "taken"}))
        out.flush()
        confined.allow_one_file()
        out.write(_message(worker.answer(job), confined))
        out.flush()


def _message(result: MediaInfo | ClipFeatures | MediaError, confined: sandbox.Sandbox) -> bytes:
    """Return the message for a result, or for an error if the result is too large."""
    try:
        return protocol.pack_result(result, replace=confined.has_leaked())
    except protocol.ProtocolError as error:
        return protocol.pack_result(MediaError(Reason.TOO_LARGE, f"the features have {error}"))
    except MemoryError:
        return protocol.pack_result(sandbox.out_of_memory_error(confined.limits), replace=True)


if __name__ == "__main__":
    main()
