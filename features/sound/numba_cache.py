"""Lets only one process at a time compile librosa's functions into numba's cache on disk.

librosa compiles functions with numba on the first use of its modules (``@guvectorize`` and
``@vectorize`` with ``cache=True``). numba's cache is not safe for concurrent writers: two
processes that add entries to one index can give two signatures the same file
(``numba.core.caching.IndexDataCacheFile.save`` reads, changes and writes the index without a
lock). From then on every process that loads this entry runs the code of another signature, and
usually dies of SIGSEGV.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

log = logging.getLogger(__name__)

_LOCK = "compile.lock"
# Lines of /proc/cpuinfo that say for which processor numba compiles (x86 and Arm).
_PROCESSOR_LINES = ("model name", "flags", "CPU implementer", "CPU part", "Features")


@contextmanager
def one_compiler(blocks: Iterable[str]) -> Iterator[None]:
    """Hold a lock while the body compiles, unless everything it compiles is in the cache.

    The body must use each function and signature that these blocks will need. When it ends
    without an error, a marker file records that the cache is complete, and later processes take
    no lock.

    Args:
        blocks: names of the sound blocks that the body runs.
    """
    folder = os.environ.get("NUMBA_CACHE_DIR")
    if folder is None:
        # features/environment.py found no cache folder; numba looks for one itself.
        yield
        return
    marker = Path(folder) / f"{_cache_key(blocks)}.complete"
    if not marker.exists():
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            lock = (Path(folder) / _LOCK).open("w")
        except OSError as error:
            # numba cannot write here either, and then puts its cache beside librosa's files.
            log.warning("numba's cache folder %s cannot be written: %s", folder, error.strerror)
        else:
            with lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                # Another process may have compiled everything while this one waited.
                if not marker.exists():
                    yield
                    marker.touch()
                    return
    yield


def _cache_key(blocks: Iterable[str]) -> str:
    """Return a hash of what decides whether numba's entries for these blocks are still valid."""
    librosa = find_spec("librosa")
    assert librosa is not None
    assert librosa.origin is not None
    parts = [
        sorted(blocks),
        [version(package) for package in ("librosa", "numba", "llvmlite")],
        # numba discards the entries of a source file that is newer.
        [librosa.origin, Path(librosa.origin).stat().st_mtime_ns],
        [platform.python_version(), platform.machine(), _processor()],
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _processor() -> list[str]:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    return sorted({line for line in lines if line.startswith(_PROCESSOR_LINES)})
