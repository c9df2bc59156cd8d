"""A folder's lock excludes other processes and ends with its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pipeline.storage.locks import locked

_TRY = """
import fcntl, os, sys
handle = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
"""


def another_process_can_lock(folder: Path) -> bool:
    done = subprocess.run([sys.executable, "-c", _TRY, folder], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0 or "BlockingIOError" in done.stderr
    return done.returncode == 0


def test_a_locked_folder_excludes_other_processes_until_the_block_ends(tmp_path: Path) -> None:
    with locked(tmp_path):
        assert not another_process_can_lock(tmp_path)
    assert another_process_can_lock(tmp_path)
    assert not list(tmp_path.iterdir())
