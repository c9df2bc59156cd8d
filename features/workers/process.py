"""One decoding process as its parent sees it: what it works on, until when, and how it ended."""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from features.arrays import AnyArray
from features.config import Limits
from features.errors import MediaError, Reason
from features.networks.export import writable_cache_folder
from features.workers import protocol
from features.workers.job import Job
from features.workers.sandbox import out_of_memory

log = logging.getLogger(__name__)

START_SECONDS = 120.0
# What a process that is alive and well needs to take a message of some kilobytes, to send an
# answer whose first bytes have come, and to be gone after SIGKILL.
_TAKE_SECONDS = 10.0
_ANSWER_SECONDS = 60.0
_END_SECONDS = 10.0
# Bytes of standard error after which it is emptied: sandbox.confine allows a megabyte.
_LONGEST_WORDS = 1 << 17
# How memory that runs out is called by C++, Python, OpenCV, ONNX Runtime and the C library.
_NO_MEMORY = (
    "bad_alloc",
    "MemoryError",
    "Insufficient memory",
    "Failed to allocate",
    "Cannot allocate memory",
)


class Process:
    """A worker process and the job it works on.

    Attributes:
        job: the job it has not answered yet.
        ready: it has started and confined itself.
        working: it has taken the job.
        deadline: the moment (``time.monotonic``) by which it must have started or answered.
    """

    def __init__(self, command: tuple[str, ...], setup: protocol.Header) -> None:
        self.job: Job | None = None
        self.ready = False
        self.working = False
        self.deadline = time.monotonic() + START_SECONDS
        self._answering = False
        self._printed = 0
        self._unpacker = protocol.Unpacker()
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=child_environment(),
                bufsize=0,
                start_new_session=True,
            )
        except BaseException:
            self._errors.close()
            raise
        assert self.process.stdin is not None
        os.set_blocking(self.process.stdin.fileno(), False)
        self._write(protocol.pack({**setup, "parent": os.getpid()}))

    @property
    def answers(self) -> IO[bytes]:
        """The pipe its answers come through."""
        assert self.process.stdout is not None
        return self.process.stdout

    @property
    def is_busy(self) -> bool:
        """Whether something is awaited of it: to start, or to answer."""
        return self.job is not None or not self.ready

    def send(self, job: Job, limits: Limits) -> None:
        """Give it a job; a process that died idle does not take it."""
        self._printed = os.fstat(self._errors.fileno()).st_size
        if self._printed > _LONGEST_WORDS:
            # It may write only so much; parent and child share one place in the file.
            self._printed = self._errors.seek(0)
            self._errors.truncate()
        self.job = job
        self.working = self._answering = False
        self.deadline = time.monotonic() + limits.wall_seconds
        header = {
            "path": str(job.path.absolute()),
            "kind": job.kind,
            "content_hash": job.content_hash,
            "segments": job.segments,
        }
        if not self._write(protocol.pack(header)):
            self.process.kill()

    def _write(self, data: bytes) -> bool:
        """Write a message; return False when the process does not take it."""
        assert self.process.stdin is not None
        pipe = self.process.stdin.fileno()
        poll = select.poll()
        poll.register(pipe, select.POLLOUT)
        end = time.monotonic() + _TAKE_SECONDS
        while data:
            if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
                return False
            try:
                data = data[os.write(pipe, data) :]
            except BrokenPipeError:
                return False
        return True

    def read(self, limits: Limits) -> list[tuple[protocol.Header, list[AnyArray]]] | None:
        """Return the answers that are complete; None when the process has closed its end.

        Raises:
            WireError: it sends something else.
        """
        data = os.read(self.answers.fileno(), 1 << 20)
        if not data:
            return None
        answers = []
        for header, arrays in self._unpacker.feed(data):
            if header.get("type") == "ready":
                self.ready = True
            elif header.get("type") == "taken":
                # From now on its death, or its lateness, is the file's doing.
                self.working = True
                self.deadline = time.monotonic() + limits.wall_seconds
            else:
                answers.append((header, arrays))
        if self.working and self._unpacker.is_midway and not self._answering:
            # The work is done; what is left is to bring it over.
            self._answering = True
            self.deadline = time.monotonic() + _ANSWER_SECONDS
        return answers

    def wait(self) -> None:
        """Wait for a process that has closed its end, so that its exit status is its own."""
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            log.warning("worker %d closed its output and goes on", self.process.pid)

    def last_words(self) -> str:
        """Return the end of what it printed, about its job where it has begun one."""
        end = os.fstat(self._errors.fileno()).st_size
        self._errors.seek(max(self._printed if self.working else 0, end - 2000))
        return self._errors.read().decode(errors="replace").strip()

    def end(self) -> int:
        """Kill the process and return its exit status, negative for a signal."""
        try:
            self.process.kill()
            return self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            # The kernel holds it, as over a dead network share; it dies when that lets go.
            log.warning("worker %d does not die of SIGKILL", self.process.pid)
            return -signal.SIGKILL
        finally:
            for pipe in (self.process.stdin, self.process.stdout, self._errors):
                if pipe is not None:
                    pipe.close()


def child_environment() -> dict[str, str]:
    """Return all that a decoding process knows of the world: no secret of its parent's.

    Raises:
        EncoderError: the cache folder may not be written.
    """
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "HOME": os.environ.get("HOME", "/"),
        "ORT_DISABLE_TELEMETRY": "1",
        "NUMBA_CACHE_DIR": str(writable_cache_folder("numba")),
    }
    if "DEBCM_CACHE" in os.environ:
        environment["DEBCM_CACHE"] = os.environ["DEBCM_CACHE"]
    return environment


def cause_of_death(status: int, words: str, limits: Limits) -> MediaError:
    """Say why a worker died: status is its exit code, negative for a signal."""
    if status == -signal.SIGXCPU:
        return MediaError(
            Reason.TIMED_OUT, f"over {limits.cpu_seconds:g} s of CPU time (limits.cpu_seconds)"
        )
    if any(mark in words for mark in _NO_MEMORY):
        return out_of_memory(limits)
    if status == -signal.SIGKILL:
        return MediaError(
            Reason.OUT_OF_MEMORY,
            "the decoder died of SIGKILL, which is how the system ends it when memory is out",
        )
    name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    tail = words.splitlines()[-1] if words else "it printed nothing"
    return MediaError(Reason.CRASHED, f"the decoder died of {name}: {tail}")
