"""A small pool of decoding processes that no file can take down.

Works inside any process, daemonic ones included, from one thread: workers are plain
subprocesses, and results are read as they come.
"""

from __future__ import annotations

import logging
import selectors
import time
from collections.abc import Iterable, Iterator
from types import TracebackType

from features.config import AudioConfig, Limits, VisualConfig
from features.errors import MediaError, Reason, WorkerError
from features.networks.export import check_network, ensure_encoder
from features.networks.packaged import sound_encoder
from features.results import ClipFeatures, MediaInfo
from features.workers import protocol
from features.workers.job import Job, JobKind
from features.workers.process import START_SECONDS, Process, cause_of_death

log = logging.getLogger(__name__)

Result = MediaInfo | ClipFeatures | MediaError

# -P keeps the working directory, which may be a landing folder, off the import path.
_WORKER = ("-P", "-m", "features.workers.worker")
# Processes that may die in a row before any of them answers: past it, no file is to blame.
_LOST_IN_A_ROW = 3


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
        self._setup = {
            "limits": limits.model_dump(mode="json"),
            "visual": visual.model_dump(mode="json") if visual else None,
            "audio": audio.model_dump(mode="json") if audio else None,
        }
        self._selector = selectors.DefaultSelector()
        self._processes: list[Process] = []
        self._running = False
        self._lost = 0
        self._returned: list[Job] = []

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

        The time that the caller takes between two results, or to name the next job, counts
        against no file. Workers whose answers nobody waits for any more are ended.

        Raises:
            ValueError: a job needs an extractor this pool was made without.
            WorkerError: a worker cannot start (its message tells why).
            RuntimeError: the pool is at work on another run.
        """
        if self._running:
            raise RuntimeError("a pool works on one run at a time; this one is not finished")
        self._running = True
        try:
            yield from self._run(iter(jobs))
        finally:
            for process in [p for p in self._processes if p.job is not None]:
                self._end(process)
            self._returned.clear()
            self._running = False

    def _run(self, jobs: Iterator[Job]) -> Iterator[tuple[Job, Result]]:
        following = self._next(jobs)
        while True:
            if following is None and self._returned:
                following = self._returned.pop()
            while following is not None and (free := self._free()) is not None:
                free.send(following, self.limits)
                following = self._next(jobs)
            wanted = sum(p.job is not None for p in self._processes)
            if following is None and wanted == 0:
                return
            if following is not None and len(self._processes) < self.workers:
                self._start()
                continue
            yield from self._wait()

    def _next(self, jobs: Iterator[Job]) -> Job | None:
        job = next(jobs, None)
        if job is not None:
            self._check(job)
        return job

    def _check(self, job: Job) -> None:
        if job.kind in (JobKind.VIDEO, JobKind.SEGMENTS) and self.visual is None:
            raise ValueError(f"job {job.key!r} of kind {job.kind} needs a VisualConfig")
        if job.kind in (JobKind.MUSIC, JobKind.SEGMENTS) and self.audio is None:
            raise ValueError(f"job {job.key!r} of kind {job.kind} needs an AudioConfig")

    def _free(self) -> Process | None:
        return next((p for p in self._processes if p.ready and p.job is None), None)

    def _start(self) -> None:
        process = Process(_WORKER, self._setup)
        self._processes.append(process)
        self._selector.register(process.answers, selectors.EVENT_READ, process)

    def _end(self, process: Process) -> int:
        self._processes.remove(process)
        self._selector.unregister(process.answers)
        return process.end()

    def _lose(self, process: Process) -> None:
        """Take away a process that died before it began a job: that is no fault of a file.

        Raises:
            WorkerError: one after the other dies so.
        """
        if process.job is not None:
            self._returned.append(process.job)
        late = not process.ready and time.monotonic() >= process.deadline
        if not late:
            process.wait()
        words = process.last_words()
        status = self._end(process)
        what = (
            f"did not start within {START_SECONDS:g} s"
            if late
            else f"cannot {'go on' if process.ready else 'start'} (status {status})"
        )
        self._lost += 1
        if self._lost >= _LOST_IN_A_ROW:
            raise WorkerError(f"{self._lost} in a row: a decoding process {what}:\n{words}")
        log.warning("a decoding process %s, another takes its place: %s", what, words)

    def _wait(self) -> list[tuple[Job, Result]]:
        """Wait for messages, deaths and deadlines; return the jobs they finish.

        A list, and whatever has come is read before anything is called late: while the caller
        works on a result nobody reads, and that must not count against a file.
        """
        timeout = min(p.deadline for p in self._processes if p.is_busy) - time.monotonic()
        done: list[tuple[Job, Result]] = []
        for key, _ in self._selector.select(max(0.0, timeout)):
            done += self._receive(key.data)
        now = time.monotonic()
        for process in [p for p in self._processes if p.is_busy and now >= p.deadline]:
            done += self._expire(process)
        return done

    def _receive(self, process: Process) -> list[tuple[Job, Result]]:
        """Read what a process has sent; return the job that it finishes, if any."""
        done: list[tuple[Job, Result]] = []
        try:
            answers = process.read(self.limits)
            if answers is None:
                return self._bury(process)
            for header, arrays in answers:
                if process.job is not None:
                    done.append((process.job, protocol.unpack_result(header, arrays)))
                    process.job = None
                    self._lost = 0
                    if header.get("worn"):
                        self._end(process)
                        break
        except protocol.WireError as error:
            process.process.kill()
            # The job is still the process's own unless its result was whole.
            if process.job is None or not process.working:
                self._lose(process)
            else:
                done.append((process.job, MediaError(Reason.CRASHED, f"the worker sent {error}")))
                self._end(process)
        return done

    def _bury(self, process: Process) -> list[tuple[Job, Result]]:
        """Take away a process that ended by itself."""
        job = process.job
        if job is None or not process.working:
            self._lose(process)
            return []
        process.wait()
        words = process.last_words()
        return [(job, cause_of_death(self._end(process), words, self.limits))]

    def _expire(self, process: Process) -> list[tuple[Job, Result]]:
        """Kill a process that is past its time."""
        job = process.job
        if job is None or not process.working:
            self._lose(process)
            return []
        self._end(process)
        wall = f"over {self.limits.wall_seconds:g} s of wall time (limits.wall_seconds)"
        return [(job, MediaError(Reason.TIMED_OUT, wall))]
