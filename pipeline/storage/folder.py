"""What makes a folder whole: `folder.json`, with the sha256 of each of its files, written last."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path

from pipeline.errors import ProvenanceError

CHECKSUMS = "folder.json"
# How files and folders begin that are not finished yet.
UNFINISHED_PREFIX = ".aside-"
# No step writes a folder for a day: what is unfinished and older was left by a killed task.
LEFTOVER_SECONDS = 86_400.0


def write_checksums(folder: Path) -> None:
    """Write `folder.json`: the sha256 of every file below `folder`, synced to disk last."""
    files = _files(folder)
    for path in files:
        with path.open("rb+") as stream:
            os.fsync(stream.fileno())
    hashes = {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}
    write_atomically(folder / CHECKSUMS, json.dumps({"sha256": hashes}, indent=1, sort_keys=True))


def verify_checksums(folder: Path, shown: str = "") -> None:
    """Compare every file below `folder` with the hashes of its `folder.json`.

    Args:
        folder: local folder.
        shown: what messages call it, where it is a copy of another.

    Raises:
        ProvenanceError: naming the first file that is missing, unknown or changed.
    """
    path = folder / CHECKSUMS
    shown = shown or str(folder)
    try:
        hashes: dict[str, str] = json.loads(path.read_text())["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ProvenanceError(
            f"unreadable manifest: {error}", where=f"{shown}/{CHECKSUMS}"
        ) from error
    found = {p.relative_to(folder).as_posix() for p in _files(folder)}
    for name in sorted(found ^ hashes.keys()):
        state = "is not in the manifest" if name in found else "is missing"
        raise ProvenanceError(state, where=f"{shown}/{name}")
    for name, expected in hashes.items():
        if sha256_of(folder / name) != expected:
            raise ProvenanceError("differs from its manifest", where=f"{shown}/{name}")


def _files(folder: Path) -> list[Path]:
    """The files below a folder but for its manifest, sorted."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / CHECKSUMS)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file aside, sync it, and rename it over `path`."""
    handle, aside = tempfile.mkstemp(prefix=UNFINISHED_PREFIX, dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(aside).chmod(0o644)
        Path(aside).replace(path)
        sync_folder(path.parent)
    finally:
        Path(aside).unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
