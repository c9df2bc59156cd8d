"""Limits that a worker puts on itself before it touches a file it was given."""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import signal
from pathlib import Path

from features.config import Limits
from features.errors import WorkerError

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWNET = 0x40000000
_CLONE_NEWUSER = 0x10000000
# A worker writes nothing but what libraries print on its standard error.
_LARGEST_WRITE = 1 << 20


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


def confine(limits: Limits) -> None:
    """Limit memory, open files, written bytes and core dumps of this process for good."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    memory = _mapped_bytes() + limits.memory
    for kind, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_FSIZE, _LARGEST_WRITE),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (value, value))


def allow_cpu(seconds: float) -> None:
    """Let this process use ``seconds`` more of CPU time; beyond it the kernel ends it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    total = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (total, resource.RLIM_INFINITY))


def _mapped_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()
