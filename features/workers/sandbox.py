"""Limits what the current process can use, before it opens an untrusted file."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import resource
import signal
from dataclasses import dataclass
from pathlib import Path

from features.config import Limits
from features.errors import MediaError, Reason, WorkerError

log = logging.getLogger(__name__)

# From linux/prctl.h and linux/sched.h.
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWNET = 0x40000000
_CLONE_NEWUSER = 0x10000000
# A worker writes no file; this is for what libraries print to standard error.
_MAX_WRITE_BYTES = 1 << 20
# Memory that earlier files may leave allocated, as a share of the memory of one file.
_LEFTOVER_SHARE = 1 / 2


def die_with_parent(parent: int) -> None:
    """Make the kernel kill this process when its parent ends, for any reason.

    Args:
        parent: process id of the parent.

    Raises:
        WorkerError: the parent has ended already, or the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise WorkerError(f"prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        raise WorkerError("the pool ended while this worker started")


def leave_network() -> bool:
    """Move into a network namespace without interfaces, and return whether that worked.

    It works for root, and where user namespaces are allowed. It is a second line of defence: the
    allow-list of protocols applies in any case.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET):
        if libc.unshare(flags) == 0:
            return True
    log.info("No network namespace: %s", os.strerror(ctypes.get_errno()))
    return False


@dataclass(frozen=True)
class Sandbox:
    """The limits of this process, and its memory before the first file.

    Limits apply per file, so that a worker that has processed thousands of files accepts the same
    files as a new one.

    Attributes:
        limits: the limits of one file.
        idle_bytes: bytes of address space in use before the first file.
    """

    limits: Limits
    idle_bytes: int

    def allow_one_file(self) -> None:
        """Set the limits of CPU time and memory to the current use plus those of one file."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds = int(used.ru_utime + used.ru_stime + self.limits.cpu_seconds) + 1
        _set_limit(resource.RLIMIT_CPU, seconds, resource.RLIM_INFINITY)
        _set_limit(resource.RLIMIT_AS, _mapped_bytes() + self.limits.memory, resource.RLIM_INFINITY)

    def has_leaked(self) -> bool:
        """Return whether earlier files left so much memory allocated that a new process is better.

        Before that, collect garbage (decoders can be in reference cycles) and return freed memory
        to the system.
        """
        most = self.limits.memory * _LEFTOVER_SHARE
        if _mapped_bytes() - self.idle_bytes > most / 2:
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)
        return _mapped_bytes() - self.idle_bytes > most


def confine(limits: Limits) -> Sandbox:
    """Permanently limit memory, open files, written bytes and core dumps of this process."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    idle_bytes = _mapped_bytes()
    for kind, value in (
        (resource.RLIMIT_AS, idle_bytes + int(limits.memory * (1 + _LEFTOVER_SHARE))),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_FSIZE, _MAX_WRITE_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        _set_limit(kind, value, value)
    return Sandbox(limits, idle_bytes)


def out_of_memory_error(limits: Limits) -> MediaError:
    """Return the error of a file that needs more memory than the limit."""
    return MediaError(
        Reason.OUT_OF_MEMORY, f"more than {limits.memory} bytes are needed (limits.memory)"
    )


def _set_limit(kind: int, soft: int, hard: int) -> None:
    """Set a limit, but never above the hard limit that the process already has."""
    _, current = resource.getrlimit(kind)
    if current != resource.RLIM_INFINITY:
        hard = current if hard == resource.RLIM_INFINITY else min(hard, current)
        soft = min(soft, hard)
    resource.setrlimit(kind, (soft, hard))


def _mapped_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()
