"""Gives safetensors files the mode that the umask asks for.

safetensors writes a temporary file with mode 0600 and renames it, so that another account, for
example that of a serving process, could not read the weights.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def mode_by_umask(path: Path) -> Iterator[Path]:
    """Yield the path for `save_file`; afterwards give the file the mode of an ordinary new file.

    An existing file is replaced.

    Example:
        with mode_by_umask(folder / "weights.safetensors") as path:
            save_file(weights, path)
    """
    path.unlink(missing_ok=True)
    # The mode of a new file is read from one: reading the umask itself would change it for a moment
    # in all threads, and would miss default ACLs of the folder.
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    yield path
    path.chmod(mode)
