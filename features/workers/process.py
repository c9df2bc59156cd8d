"""Starts a worker process, sends it jobs, reads its answers, and explains its end."""

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
from features.workers.sandbox import out_of_memory_error

log = logging.getLogger(__name__)

# The first worker in a new environment compiles librosa's functions, the others wait for it.
START_SECONDS = 120.0
# Longest times that a healthy process needs: to take a message of some kilobytes, to send the rest
# of an answer whose first bytes have arrived, and to end after SIGKILL.
_TAKE_SECONDS = 10.0
_ANSWER_SECONDS = 60.0
_END_SECONDS = 10.0
# Bytes of standard error after which the file is emptied; sandbox.confine allows 1 MiB.
_MAX_OUTPUT_BYTES = 1 << 17
# Text by which C++, Python, OpenCV, ONNX Runtime and the C library report that memory ran out.
_OUT_OF_MEMORY_TEXTS = (
    "bad_alloc",
    "MemoryError",
    "Insufficient memory",
    "Failed to allocate",
    "Cannot allocate memory",
)


class WorkerProcess:
    """A worker process and its job.

    Args:
        command: arguments of the Python interpreter that start the worker.
        setup: the limits and extractors' settings that the worker receives first.

    Attributes:
        process: the child process.
        job: the job that was sent to the worker and is not answered.
        is_ready: whether the worker has started and confined itself.
        has_taken_job: whether the worker has begun the job. From then on the file is the probable
            cause if the worker ends or is late.
        deadline: time (``time.monotonic``) by which the worker must have started or answered.
    """

    def __init__(self, command: tuple[str, ...], setup: protocol.Header) -> None:
        self.job: Job | None = None
        self.is_ready = False
        self.has_taken_job = False
        self.deadline = time.monotonic() + START_SECONDS
        self._is_answering = False
        self._output_start = 0
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
        """The pipe from which the worker's answers are read."""
        assert self.process.stdout is not None
        return self.process.stdout

    @property
    def is_awaited(self) -> bool:
        """Whether the worker has to start or to answer."""
        return self.job is not None or not self.is_ready

    def send(self, job: Job, limits: Limits) -> None:
        """Send a job; kill the worker if it does not read the message."""
        self._output_start = os.fstat(self._errors.fileno()).st_size
        if self._output_start > _MAX_OUTPUT_BYTES:
            # Parent and child share the file position, so the child writes from the start again.
            self._output_start = self._errors.seek(0)
            self._errors.truncate()
        self.job = job
        self.has_taken_job = self._is_answering = False
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
        """Write a message, and return whether the worker read it in time."""
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
        """Return the answers that are complete; None if the worker closed its end of the pipe.

        Raises:
            ProtocolError: the worker sent bytes that are not a message.
        """
        data = os.read(self.answers.fileno(), 1 << 20)
        if not data:
            return None
        answers = []
        for header, arrays in self._unpacker.feed(data):
            if header.get("type") == "ready":
                self.is_ready = True
            elif header.get("type") == "taken":
                self.has_taken_job = True
                self.deadline = time.monotonic() + limits.wall_seconds
            else:
                answers.append((header, arrays))
        if self.has_taken_job and self._unpacker.is_midway and not self._is_answering:
            # The work is done; only the rest of the answer has to arrive.
            self._is_answering = True
            self.deadline = time.monotonic() + _ANSWER_SECONDS
        return answers

    def wait(self) -> None:
        """Wait for the end of a worker that closed its output, to get its own exit status."""
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            log.warning("Worker %d closed its output but did not end", self.process.pid)

    def error_output(self) -> str:
        """Return the end of the worker's standard error, since its job began if there is one."""
        end = os.fstat(self._errors.fileno()).st_size
        self._errors.seek(max(self._output_start if self.has_taken_job else 0, end - 2000))
        return self._errors.read().decode(errors="replace").strip()

    def kill(self) -> int:
        """Kill the worker and return its exit status, negative for a signal."""
        try:
            self.process.kill()
            return self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            # The kernel keeps it in a system call, for example on a network share that is gone.
            log.warning("Worker %d has not ended after SIGKILL", self.process.pid)
            return -signal.SIGKILL
        finally:
            for pipe in (self.process.stdin, self.process.stdout, self._errors):
                if pipe is not None:
                    pipe.close()


def child_environment() -> dict[str, str]:
    """Return the environment of a worker: only what it needs, so that it holds no secret.

    Raises:
        EncoderError: the cache folder is not writable.
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


def error_of_exit(status: int, output: str, limits: Limits) -> MediaError:
    """Return the error of the file on which a worker ended.

    Args:
        status: exit status of the worker, negative for a signal.
        output: the worker's standard error.
        limits: the limits of the worker.
    """
    if status == -signal.SIGXCPU:
        return MediaError(
            Reason.TIMED_OUT,
            f"longer than {limits.cpu_seconds:g} s of CPU time (limits.cpu_seconds)",
        )
    if any(text in output for text in _OUT_OF_MEMORY_TEXTS):
        return out_of_memory_error(limits)
    if status == -signal.SIGKILL:
        return MediaError(
            Reason.OUT_OF_MEMORY,
            "the decoder was killed (SIGKILL), probably because the system ran out of memory",
        )
    name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    tail = output.splitlines()[-1] if output else "it printed nothing"
    return MediaError(Reason.CRASHED, f"the decoder crashed ({name}): {tail}")
