"""A small pool of decoding processes that no file can take down.

Works inside any process, daemonic ones included, from one thread: workers are plain
subprocesses, and results are read as they come.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Literal

from features import wire
from features.config import AudioConfig, Limits, VisualConfig
from features.errors import MediaError, Reason, WorkerError
from features.export import check_network, ensure_encoder
from features.packaged import sound_encoder
from features.results import ClipFeatures, MediaInfo

log = logging.getLogger(__name__)

Kind = Literal["probe", "probe_video", "probe_music", "video", "music", "segments"]
Result = MediaInfo | ClipFeatures | MediaError

_START_SECONDS = 120.0
# -P keeps the working directory, which may be a landing folder, off the import path.
_WORKER = ("-P", "-m", "features.worker")


@dataclass(frozen=True)
class Job:
    """One file to work on.

    Attributes:
        key: the caller's own name for the job, returned with its result.
        path: the file.
        kind: ``probe`` (anything decodable), ``probe_video`` or ``probe_music`` (what the
            manifest promises) give MediaInfo; ``video`` gives one VisualFeatures, ``music``
            one AudioFeatures, ``segments`` one of each per segment.
        content_hash: sha256 the bytes must have; checked before anything is decoded.
        segments: (start, end) in seconds from the first frame, for ``segments``.
    """

    key: str
    path: Path
    kind: Kind
    content_hash: str | None = None
    segments: tuple[tuple[float, float], ...] = ()


class _Process:
    """One worker process and the job it works on."""

    def __init__(self, setup: bytes) -> None:
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "HOME": os.environ.get("HOME", "/"),
        }
        if "DEBCM_CACHE" in os.environ:
            environment["DEBCM_CACHE"] = os.environ["DEBCM_CACHE"]
        self.process = subprocess.Popen(
            [sys.executable, *_WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=environment,
            bufsize=0,
            start_new_session=True,
        )
        self.unpacker = wire.Unpacker()
        self.job: Job | None = None
        self.ready = False
        self.deadline = time.monotonic() + _START_SECONDS
        self._write(setup)

    def _write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(data)
        except BrokenPipeError:
            # The end of its stdout says the same, with the reason, in a moment.
            log.debug("worker %d is gone before its message", self.process.pid)

    def send(self, job: Job, limits: Limits) -> None:
        self.job = job
        self.deadline = time.monotonic() + limits.wall_seconds
        header = {
            "path": str(job.path.absolute()),
            "kind": job.kind,
            "content_hash": job.content_hash,
            "segments": job.segments,
        }
        self._write(wire.pack(header))

    def read(self) -> list[tuple[wire.Header, list[wire.Array]]] | None:
        """Return complete messages; None when the process has closed its end."""
        assert self.process.stdout is not None
        data = os.read(self.process.stdout.fileno(), 1 << 20)
        return self.unpacker.feed(data) if data else None

    def last_words(self) -> str:
        self.errors.seek(0, os.SEEK_END)
        self.errors.seek(max(0, self.errors.tell() - 2000))
        return self.errors.read().decode(errors="replace").strip()

    def end(self) -> int:
        """Kill the process and return its exit status, negative for a signal."""
        self.process.kill()
        status = self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.errors):
            if pipe is not None:
                pipe.close()
        return status


class MediaPool:
    """Runs jobs in child processes with limits; a dead child costs one file and is replaced.

    Use as a context manager. ``visual`` is needed for kinds video and segments, ``audio``
    for music and segments, neither for probes.

    Raises:
        EncoderError: a configured network is missing or is not the promised one.
    """

    def __init__(
        self,
        workers: int,
        limits: Limits,
        visual: VisualConfig | None,
        audio: AudioConfig | None,
    ) -> None:
        if workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers}")
        self.workers = workers
        self.limits = limits
        self.visual = visual
        self.audio = audio
        if visual is not None:
            ensure_encoder(visual)
        if audio is not None and (listener := sound_encoder(audio)) is not None:
            check_network(listener)
        self._setup = wire.pack(
            {
                "parent": os.getpid(),
                "limits": limits.model_dump(mode="json"),
                "visual": visual.model_dump(mode="json") if visual else None,
                "audio": audio.model_dump(mode="json") if audio else None,
            }
        )
        self._selector = selectors.DefaultSelector()
        self._processes: list[_Process] = []

    def __enter__(self) -> MediaPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all workers at once."""
        while self._processes:
            self._end(self._processes[0])
        self._selector.close()

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Result]]:
        """Yield each job with what it gave, in the order in which they finish.

        Raises:
            ValueError: a job needs an extractor this pool was made without.
            WorkerError: a worker cannot start (its message tells why).
        """
        waiting = iter(jobs)
        following = next(waiting, None)
        while True:
            while following is not None and (free := self._free()) is not None:
                self._check(following)
                free.send(following, self.limits)
                following = next(waiting, None)
            wanted = sum(p.job is not None for p in self._processes)
            if following is None and wanted == 0:
                return
            if following is not None and len(self._processes) < self.workers:
                self._start()
                continue
            yield from self._wait()

    def _check(self, job: Job) -> None:
        if job.kind in ("video", "segments") and self.visual is None:
            raise ValueError(f"job {job.key!r} of kind {job.kind} needs a VisualConfig")
        if job.kind in ("music", "segments") and self.audio is None:
            raise ValueError(f"job {job.key!r} of kind {job.kind} needs an AudioConfig")

    def _free(self) -> _Process | None:
        return next((p for p in self._processes if p.ready and p.job is None), None)

    def _start(self) -> None:
        process = _Process(self._setup)
        self._processes.append(process)
        assert process.process.stdout is not None
        self._selector.register(process.process.stdout, selectors.EVENT_READ, process)

    def _end(self, process: _Process) -> int:
        self._processes.remove(process)
        assert process.process.stdout is not None
        self._selector.unregister(process.process.stdout)
        return process.end()

    def _wait(self) -> Iterator[tuple[Job, Result]]:
        """Wait for messages, deaths and deadlines; yield the jobs they finish."""
        active = [p for p in self._processes if p.job is not None or not p.ready]
        timeout = min(p.deadline for p in active) - time.monotonic()
        for key, _ in self._selector.select(max(0.0, timeout)):
            yield from self._receive(key.data)
        now = time.monotonic()
        for process in [p for p in active if p in self._processes and now >= p.deadline]:
            yield from self._expire(process)

    def _receive(self, process: _Process) -> Iterator[tuple[Job, Result]]:
        try:
            messages = process.read()
            if messages is None:
                yield from self._bury(process)
                return
            for header, arrays in messages:
                if header.get("type") == "ready":
                    process.ready = True
                elif process.job is not None:
                    job, process.job = process.job, None
                    result = wire.unpack_result(header, arrays)
                    if isinstance(result, MediaError) and result.reason is Reason.OUT_OF_MEMORY:
                        # What filled its memory may still be there.
                        self._end(process)
                    yield job, result
        except wire.WireError as error:
            unfinished = process.job
            self._end(process)
            if unfinished is not None:
                yield unfinished, MediaError(Reason.CRASHED, f"the worker sent {error}")

    def _bury(self, process: _Process) -> Iterator[tuple[Job, Result]]:
        """Take away a process that ended by itself."""
        job, ready, words = process.job, process.ready, process.last_words()
        # Its stdout is closed, so it is ending; waiting keeps its own exit status.
        try:
            process.process.wait(5)
        except subprocess.TimeoutExpired:
            log.warning("worker %d closed its output and goes on", process.process.pid)
        status = self._end(process)
        if not ready:
            raise WorkerError(f"a decoding process cannot start (status {status}):\n{words}")
        if job is not None:
            yield job, _death(status, words, self.limits)

    def _expire(self, process: _Process) -> Iterator[tuple[Job, Result]]:
        """Kill a process that is past its time."""
        late = process.job
        self._end(process)
        if late is None:
            raise WorkerError(f"a decoding process did not start within {_START_SECONDS:g} s")
        yield (
            late,
            MediaError(
                Reason.TIMED_OUT,
                f"over {self.limits.wall_seconds:g} s of wall time (limits.wall_seconds)",
            ),
        )


def _death(status: int, words: str, limits: Limits) -> MediaError:
    """Say why a worker died: status is its exit code, negative for a signal."""
    if status == -signal.SIGXCPU:
        return MediaError(
            Reason.TIMED_OUT, f"over {limits.cpu_seconds:g} s of CPU time (limits.cpu_seconds)"
        )
    if "bad_alloc" in words or "MemoryError" in words:
        return MediaError(
            Reason.OUT_OF_MEMORY, f"over {limits.memory} bytes (limits.memory) are needed"
        )
    name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    tail = words.splitlines()[-1] if words else "it said nothing"
    return MediaError(Reason.CRASHED, f"the decoder died of {name}: {tail}")
