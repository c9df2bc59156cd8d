"""Folders in object storage, which has no rename: files first, then the one object naming them.

The files of folder `NAME` lie below `NAME/<sha256 of its manifest>/`; the manifest itself is
`NAME/folder.json`, put last, and only where there is none. Two writers at once therefore never
mix: what the manifest lists is what its own writer uploaded. What a killed writer uploaded is
named by no manifest, and goes with `sweep`.

Folders are read through copies on this machine, each under the hash of its manifest, so a copy is
the one that the manifest means or is not looked at.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs as pafs

from pipeline.errors import DiskFullError, ProvenanceError
from pipeline.storage import object_pointer
from pipeline.storage.folder import CHECKSUMS, LEFTOVER_SECONDS, UNFINISHED_PREFIX, verify_checksums

log = logging.getLogger(__name__)

# Copies on this machine: the newest stay, and those that somebody may be reading.
KEPT_COPIES = 8
# How often a folder may be replaced by another while it is downloaded, or swept while uploaded.
_OVERTAKEN = 3
_BUFFER = 16 * 1024 * 1024
_DIGEST = re.compile(r"(?P<name>.+)/(?P<digest>[0-9a-f]{64})/.+")
_TABLES = "tables"


class ObjectFolders:
    """Immutable folders below a prefix of a bucket.

    Args:
        filesystem: of the bucket.
        base: "bucket/prefix".
        options: `[lake] storage_options`.
        cache: folder of this machine for this lake's copies.
    """

    def __init__(
        self, filesystem: pafs.FileSystem, base: str, options: dict[str, str], cache: Path
    ) -> None:
        self._filesystem = filesystem
        self._base = base
        self._options = options
        self._copies = cache / "folders"
        self._scratch = cache / "scratch"
        self._checked: set[tuple[str, str]] = set()

    def digest(self, name: str) -> str | None:
        """The sha256 of a folder's manifest; None where no folder was written to its end."""
        manifest = self._manifest(name)
        return None if manifest is None else _sha256(manifest)

    def place(self) -> Path:
        """The folder of this machine below which folders are filled; `prune` finds what is left."""
        self._copies.mkdir(parents=True, exist_ok=True)
        return self._copies

    def put(self, folder: Path, name: str) -> bool:
        """Upload a local folder with its manifest; False where another was first, which stays."""
        manifest = (folder / CHECKSUMS).read_bytes()
        digest = _sha256(manifest)
        files = sorted(json.loads(manifest)["sha256"])
        self._upload(folder, f"{name}/{digest}", files)
        first = object_pointer.replace(
            self._base, f"{name}/{CHECKSUMS}", manifest.decode(), None, self._options
        )
        if first:
            self._upload_again(folder, f"{name}/{digest}", files)
        elif self.digest(name) not in {None, digest}:
            self._delete(f"{name}/{digest}")
        return first

    def fetch(self, name: str) -> Path:
        """The folder's copy on this machine, its files compared with the manifest.

        Raises:
            ProvenanceError: the folder is missing or incomplete, or a file is not the one written.
        """
        for look in range(1, _OVERTAKEN + 1):
            manifest = self._manifest(name)
            if manifest is None:
                raise ProvenanceError("no such folder, or not written to its end", where=name)
            copy = self._copies / name / _sha256(manifest)
            try:
                if not self._is_good(copy, name):
                    self._download(name, manifest, copy)
                break
            except ProvenanceError:
                if look == _OVERTAKEN or self._manifest(name) == manifest:
                    raise
                log.info("%s was replaced while it was downloaded", name)
        os.utime(copy)
        self._checked.add((name, copy.name))
        return copy

    def remove(self, name: str) -> None:
        """Remove a folder, or all below a prefix, with the copies on this machine."""
        for local in (self._copies, self._scratch):
            shutil.rmtree(local / name, ignore_errors=True)
        manifest = f"{self._base}/{name}/{CHECKSUMS}"
        if self._filesystem.get_file_info(manifest).type == pafs.FileType.File:
            self._filesystem.delete_file(manifest)
        self._delete(name)

    def scratch(self, name: str) -> Path:
        """A folder of this machine for what is no result; it goes with the folder it is for."""
        folder = self._scratch / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def modified(self, name: str) -> float:
        """When any object below a folder was last written, since the epoch; 0: there is none."""
        return max((written for _, written in self._files_below(name)), default=0.0)

    def sweep(self, older_than: float) -> list[str]:
        """Remove uploads that no manifest names, last touched before a time; return their paths."""
        self.prune()
        swept = []
        for path, touched in sorted(self._uploads().items()):
            name, _, digest = path.rpartition("/")
            if touched < older_than and self.digest(name) != digest:
                self._delete(path)
                swept.append(path)
        return swept

    def prune(self) -> None:
        """Remove from this machine what the lake has no more, and of the rest all but some."""
        copies = sorted(self._copies.glob(f"**/{'[0-9a-f]' * 64}"), key=_last_used, reverse=True)
        long_ago = time.time() - LEFTOVER_SECONDS
        gone = [
            path
            for path in self._copies.glob(f"**/{UNFINISHED_PREFIX}*")
            if _last_used(path) < long_ago
        ]
        for rank, copy in enumerate(copies):
            unused = rank >= KEPT_COPIES and _last_used(copy) < long_ago
            if unused or self.digest(copy.parent.relative_to(self._copies).as_posix()) != copy.name:
                gone.append(copy)
        for path in self._scratch.glob("*/*"):
            if not self._below(path.relative_to(self._scratch).as_posix(), recursive=False):
                gone += [path]
        for path in gone:
            log.info("removing %s from this machine", path)
            shutil.rmtree(path, ignore_errors=True)

    def _manifest(self, name: str) -> bytes | None:
        try:
            with self._filesystem.open_input_stream(f"{self._base}/{name}/{CHECKSUMS}") as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None

    def _delete(self, path: str) -> None:
        whole = f"{self._base}/{path}"
        try:
            if self._filesystem.get_file_info(whole).type != pafs.FileType.NotFound:
                self._filesystem.delete_dir(whole)
        except FileNotFoundError:
            log.debug("%s is gone already", path)

    def _upload(self, folder: Path, prefix: str, files: list[str]) -> None:
        for file in files:
            target = f"{self._base}/{prefix}/{file}"
            with (
                (folder / file).open("rb") as source,
                self._filesystem.open_output_stream(target) as stream,
            ):
                shutil.copyfileobj(source, stream, _BUFFER)

    def _upload_again(self, folder: Path, prefix: str, files: list[str]) -> None:
        """Put back what a sweep took for a killed writer's while this one uploaded the same."""
        found = {file.removeprefix(f"{prefix}/") for file, _ in self._files_below(prefix)}
        if missing := sorted(set(files) - found):
            log.warning("%s was swept meanwhile; %d files again", prefix, len(missing))
            self._upload(folder, prefix, missing)

    def _is_good(self, copy: Path, name: str) -> bool:
        if not (copy / CHECKSUMS).is_file():
            return False
        if (name, copy.name) in self._checked:
            return True
        try:
            verify_checksums(copy)
        except ProvenanceError as error:
            log.warning("a damaged copy is fetched again: %s", error)
            shutil.rmtree(copy)
            return False
        return True

    def _download(self, name: str, manifest: bytes, copy: Path) -> None:
        copy.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=UNFINISHED_PREFIX, dir=copy.parent))
        prefix = f"{name}/{copy.name}"
        try:
            for file in _listed(manifest, name):
                (aside / file).parent.mkdir(parents=True, exist_ok=True)
                self._download_file(f"{prefix}/{file}", aside / file)
            (aside / CHECKSUMS).write_bytes(manifest)
            verify_checksums(aside, shown=prefix)
            try:
                aside.rename(copy)
            except OSError:
                # Another process was first.
                if not (copy / CHECKSUMS).is_file():
                    raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        self.prune()

    def _download_file(self, path: str, to: Path) -> None:
        try:
            with (
                self._filesystem.open_input_stream(f"{self._base}/{path}") as stream,
                to.open("wb") as target,
            ):
                shutil.copyfileobj(stream, target, _BUFFER)
        except FileNotFoundError as error:
            raise ProvenanceError("is missing", where=path) from error
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise DiskFullError(str(error), where=str(to)) from error
            raise

    def _uploads(self) -> dict[str, float]:
        """Every prefix that holds a folder's files: path -> when last touched, since the epoch."""
        touched: dict[str, float] = {}
        for child in self._below("", recursive=False):
            if child.base_name == _TABLES:
                continue
            for path, modified in self._files_below(child.base_name):
                if found := _DIGEST.fullmatch(path):
                    upload = f"{found['name']}/{found['digest']}"
                    touched[upload] = max(modified, touched.get(upload, 0.0))
        return touched

    def _files_below(self, prefix: str) -> Iterator[tuple[str, float]]:
        for info in self._below(prefix, recursive=True):
            if info.type == pafs.FileType.File:
                yield info.path.removeprefix(f"{self._base}/"), info.mtime.timestamp()

    def _below(self, prefix: str, *, recursive: bool) -> list[pafs.FileInfo]:
        path = f"{self._base}/{prefix}".rstrip("/")
        selector = pafs.FileSelector(path, recursive=recursive, allow_not_found=True)
        found: list[pafs.FileInfo] = self._filesystem.get_file_info(selector)
        return found


def _listed(manifest: bytes, name: str) -> list[str]:
    try:
        return sorted(json.loads(manifest)["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise ProvenanceError(
            f"unreadable manifest: {error}", where=f"{name}/{CHECKSUMS}"
        ) from error


def _last_used(path: Path) -> float:
    """Seconds since the epoch; 0 for what another process removed meanwhile."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
