"""Runs jobs in a pool of worker processes; a file that crashes a worker is one rejected file.

Workers are plain subprocesses, and one thread reads their results. The pool therefore also works
inside daemonic processes, in which ``multiprocessing`` does not.
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
from features.workers.process import START_SECONDS, WorkerProcess, error_of_exit

log = logging.getLogger(__name__)

Result = MediaInfo | ClipFeatures | MediaError

# -P: nothing is imported from the working directory, which may be a landing folder.
_WORKER = ("-P", "-m", "features.workers.worker")
# Workers in a row that end without an answer and without a job: then no file is the cause.
_MAX_LOST_IN_A_ROW = 3


class MediaPool:
    """Runs jobs in worker processes with limits; a worker that ends is replaced.

    Use it as a context manager.

    Args:
        workers: number of processes.
        limits: limits per file.
        visual: settings of the visual extractor; needed for jobs VIDEO and SEGMENTS.
        audio: settings of the sound extractor; needed for jobs MUSIC and SEGMENTS.

    Raises:
        EncoderError: a configured network is missing or has another sha256.

    Example:
        >>> with MediaPool(2, Limits(), VisualConfig(), None) as pool:
        ...     for job, result in pool.run([Job("clip", Path("clip.mp4"), JobKind.VIDEO)]):
        ...         print(job.key, result)
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
        if audio is not None and (encoder := sound_encoder(audio)) is not None:
            check_network(encoder)
        self._setup = {
            "limits": limits.model_dump(mode="json"),
            "visual": visual.model_dump(mode="json") if visual else None,
            "audio": audio.model_dump(mode="json") if audio else None,
        }
        self._selector = selectors.DefaultSelector()
        self._processes: list[WorkerProcess] = []
        self._running = False
        self._lost_in_a_row = 0
        self._requeued: list[Job] = []

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
        """Kill all workers."""
        while self._processes:
            self._kill(self._processes[0])
        self._selector.close()

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Result]]:
        """Yield each job with its result, in the order in which they finish.

        Time that the caller takes between two results, or that ``jobs`` takes to yield, does not
        count towards the limits of a file. If the caller stops early, busy workers are killed.

        Raises:
            ValueError: a job needs an extractor that this pool does not have.
            WorkerError: workers cannot start; the message contains their error output.
            RuntimeError: another run of this pool has not finished.
        """
        if self._running:
            raise RuntimeError("another run of this pool has not finished")
        self._running = True
        try:
            yield from self._run(iter(jobs))
        finally:
            for process in [p for p in self._processes if p.job is not None]:
                self._kill(process)
            self._requeued.clear()
            self._running = False

    def _run(self, jobs: Iterator[Job]) -> Iterator[tuple[Job, Result]]:
        upcoming = self._next(jobs)
        while True:
            if upcoming is None and self._requeued:
                upcoming = self._requeued.pop()
            while upcoming is not None and (idle := self._idle_process()) is not None:
                idle.send(upcoming, self.limits)
                upcoming = self._next(jobs)
            busy = sum(p.job is not None for p in self._processes)
            if upcoming is None and busy == 0:
                return
            if upcoming is not None and len(self._processes) < self.workers:
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
            raise ValueError(f"job {job.key!r} of kind {job.kind} needs a pool with a VisualConfig")
        if job.kind in (JobKind.MUSIC, JobKind.SEGMENTS) and self.audio is None:
            raise ValueError(f"job {job.key!r} of kind {job.kind} needs a pool with an AudioConfig")

    def _idle_process(self) -> WorkerProcess | None:
        return next((p for p in self._processes if p.is_ready and p.job is None), None)

    def _start(self) -> None:
        process = WorkerProcess(_WORKER, self._setup)
        self._processes.append(process)
        self._selector.register(process.answers, selectors.EVENT_READ, process)

    def _kill(self, process: WorkerProcess) -> int:
        self._processes.remove(process)
        self._selector.unregister(process.answers)
        return process.kill()

    def _handle_loss(self, process: WorkerProcess) -> None:
        """Remove a worker that ended or was late without having taken a job; requeue its job.

        Raises:
            WorkerError: too many workers in a row were lost.
        """
        if process.job is not None:
            self._requeued.append(process.job)
        late = not process.is_ready and time.monotonic() >= process.deadline
        if not late:
            process.wait()
        output = process.error_output()
        status = self._kill(process)
        if late:
            what = f"did not start within {START_SECONDS:g} s"
        else:
            what = f"{'ended' if process.is_ready else 'could not start'} (exit status {status})"
        self._lost_in_a_row += 1
        if self._lost_in_a_row >= _MAX_LOST_IN_A_ROW:
            raise WorkerError(
                f"{self._lost_in_a_row} workers in a row failed; the last {what}:\n{output}"
            )
        log.warning("A worker %s and is replaced: %s", what, output)

    def _wait(self) -> list[tuple[Job, Result]]:
        """Wait for answers, ends of workers and deadlines; return the jobs that they finish.

        Everything that has arrived is read before a deadline is checked, and the results are
        returned as a list: the time that the caller spends on a result must not make a file late.
        """
        timeout = min(p.deadline for p in self._processes if p.is_awaited) - time.monotonic()
        done: list[tuple[Job, Result]] = []
        for key, _ in self._selector.select(max(0.0, timeout)):
            done += self._receive(key.data)
        now = time.monotonic()
        for process in [p for p in self._processes if p.is_awaited and now >= p.deadline]:
            done += self._handle_deadline(process)
        return done

    def _receive(self, process: WorkerProcess) -> list[tuple[Job, Result]]:
        """Read what a worker has sent; return the job that this finishes, if any."""
        done: list[tuple[Job, Result]] = []
        try:
            answers = process.read(self.limits)
            if answers is None:
                return self._handle_exit(process)
            for header, arrays in answers:
                if process.job is not None:
                    done.append((process.job, protocol.unpack_result(header, arrays)))
                    process.job = None
                    self._lost_in_a_row = 0
                    if header.get("replace"):
                        self._kill(process)
                        break
        except protocol.ProtocolError as error:
            process.process.kill()
            # process.job is None if the result was complete and other bytes followed it.
            if process.job is None or not process.has_taken_job:
                self._handle_loss(process)
            else:
                done.append((process.job, MediaError(Reason.CRASHED, f"the worker sent {error}")))
                self._kill(process)
        return done

    def _handle_exit(self, process: WorkerProcess) -> list[tuple[Job, Result]]:
        """Remove a worker that ended; return the job that it was working on, if any."""
        job = process.job
        if job is None or not process.has_taken_job:
            self._handle_loss(process)
            return []
        process.wait()
        output = process.error_output()
        return [(job, error_of_exit(self._kill(process), output, self.limits))]

    def _handle_deadline(self, process: WorkerProcess) -> list[tuple[Job, Result]]:
        """Kill a worker that missed its deadline; return the job that it was working on, if any."""
        job = process.job
        if job is None or not process.has_taken_job:
            self._handle_loss(process)
            return []
        self._kill(process)
        detail = f"longer than {self.limits.wall_seconds:g} s of wall time (limits.wall_seconds)"
        return [(job, MediaError(Reason.TIMED_OUT, detail))]
