"""Writes and verifies `folder.json`: the checksums that mark a folder as complete.

`folder.json` holds the sha256 of every file and is written last.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from pathlib import Path

from pipeline.errors import ProvenanceError

CHECKSUMS = "folder.json"
# Prefix of the names of files and folders that are still being written.
UNFINISHED_PREFIX = ".aside-"
# No step needs a day to write a folder: an older unfinished one was left by a killed task.
LEFTOVER_SECONDS = 86_400.0


def write_checksums(folder: Path) -> None:
    """Sync every file below `folder` to disk, then write their sha256 to `folder.json`."""
    files = _files(folder)
    for path in files:
        with path.open("rb+") as stream:
            os.fsync(stream.fileno())
    hashes = {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}
    write_atomically(folder / CHECKSUMS, json.dumps({"sha256": hashes}, indent=1, sort_keys=True))


def verify_checksums(folder: Path, shown: str = "") -> None:
    """Compare every file below `folder` with the checksums in its `folder.json`.

    Args:
        folder: local folder.
        shown: name of the folder in messages, if `folder` is a copy; by default its path.

    Raises:
        ProvenanceError: `folder.json` cannot be read, or a file is missing, unknown or changed.
            The message names the first such file.
    """
    path = folder / CHECKSUMS
    shown = shown or str(folder)
    try:
        hashes: dict[str, str] = json.loads(path.read_text())["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ProvenanceError(
            f"The checksums cannot be read: {error}", where=f"{shown}/{CHECKSUMS}"
        ) from error
    found = {p.relative_to(folder).as_posix() for p in _files(folder)}
    for name in sorted(found ^ hashes.keys()):
        fault = "has no checksum" if name in found else "is missing"
        raise ProvenanceError(f"A file {fault}", where=f"{shown}/{name}")
    for name, expected in hashes.items():
        if sha256_of(folder / name) != expected:
            raise ProvenanceError("A file differs from its checksum", where=f"{shown}/{name}")


def _files(folder: Path) -> list[Path]:
    """The files below a folder except its checksums, sorted."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / CHECKSUMS)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file under a temporary name, sync it to disk, and rename it to `path`.

    Its mode follows the umask, which a file of `tempfile` would not.
    """
    temporary = path.with_name(f"{UNFINISHED_PREFIX}{uuid.uuid4().hex}")
    try:
        with temporary.open("x", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Sync a folder to disk, so that a rename in it survives a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
