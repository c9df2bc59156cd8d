"""Limits that a worker puts on itself before it touches a file it was given."""

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

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWNET = 0x40000000
_CLONE_NEWUSER = 0x10000000
# A worker writes nothing but what libraries print on its standard error.
_LARGEST_WRITE = 1 << 20
# A worker is worn when files have left half of one file's memory behind.
_WORN = 2


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, however it ends.

    Raises:
        WorkerError: the parent is gone already, or the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise WorkerError(f"prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        raise WorkerError("the pool ended while this worker started")


def leave_network() -> bool:
    """Move into a network namespace without any interface; return whether that worked.

    It works for root and where user namespaces are allowed. The allow-list of protocols
    holds in any case; this is the second wall.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET):
        if libc.unshare(flags) == 0:
            return True
    log.info("no network namespace: %s", os.strerror(ctypes.get_errno()))
    return False


@dataclass(frozen=True)
class Sandbox:
    """The limits of this process, and what it was before its first file.

    What one file may cost is counted anew for each, so that a worker that has done thousands
    is worth as much as a new one.

    Attributes:
        limits: the limits of one file.
        idle: bytes mapped before the first file.
    """

    limits: Limits
    idle: int

    def begin_file(self) -> None:
        """Allow CPU time and memory for one more file; beyond them the kernel says no."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds = int(used.ru_utime + used.ru_stime + self.limits.cpu_seconds) + 1
        _limit(resource.RLIMIT_CPU, seconds, resource.RLIM_INFINITY)
        _limit(resource.RLIMIT_AS, _mapped_bytes() + self.limits.memory, resource.RLIM_INFINITY)

    def is_worn(self) -> bool:
        """Whether files have left so much behind that a new process is better.

        Before that, what nobody needs is given back: decoders in reference cycles, and freed
        memory that the allocator keeps.
        """
        most = self.limits.memory // _WORN
        if _mapped_bytes() - self.idle > most // 2:
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)
        return _mapped_bytes() - self.idle > most


def confine(limits: Limits) -> Sandbox:
    """Limit memory, open files, written bytes and core dumps of this process for good."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    idle = _mapped_bytes()
    for kind, value in (
        (resource.RLIMIT_AS, idle + limits.memory + limits.memory // _WORN),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_FSIZE, _LARGEST_WRITE),
        (resource.RLIMIT_CORE, 0),
    ):
        _limit(kind, value, value)
    return Sandbox(limits, idle)


def out_of_memory(limits: Limits) -> MediaError:
    """Say that a file needs more memory than one may have."""
    return MediaError(
        Reason.OUT_OF_MEMORY, f"over {limits.memory} bytes (limits.memory) are needed"
    )


def _limit(kind: int, soft: int, hard: int) -> None:
    """Set a limit; where the system's own is lower, that one stays."""
    _, ours = resource.getrlimit(kind)
    if ours != resource.RLIM_INFINITY:
        hard = ours if hard == resource.RLIM_INFINITY else min(hard, ours)
        soft = min(soft, hard)
    resource.setrlimit(kind, (soft, hard))


def _mapped_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()
