"""Stores immutable folders in object storage, which has no atomic rename.

The files of folder `NAME` are uploaded first, below `NAME/<sha256 of folder.json>/`. Then its
checksums `NAME/folder.json` are put, if there are none yet. Therefore the files of concurrent
writers never mix: the checksums lead to the files of the writer that put them. If a writer is
killed, no checksums lead to its files, and `sweep` removes them.

Folders are read through copies on this machine. A copy is stored under the hash of its checksums,
so an outdated copy is never read.
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

# Number of copies that stay on this machine; copies that may be in use stay too.
KEPT_COPIES = 8
# Attempts to download a folder that other processes replace during the download.
_MAX_DOWNLOADS = 3
_BUFFER_BYTES = 16 * 1024 * 1024
_UPLOADED_FILE = re.compile(r"(?P<name>.+)/(?P<digest>[0-9a-f]{64})/.+")
_TABLES = "tables"


class ObjectFolders:
    """Immutable folders below a prefix of a bucket.

    Args:
        filesystem: of the bucket.
        base: "bucket/prefix".
        options: `[lake] storage_options`.
        cache: folder on this machine for copies of this lake.
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

    def checksums_hash(self, name: str) -> str | None:
        """Return the sha256 of a folder's checksums; None if there is no complete folder."""
        checksums = self._read_checksums(name)
        return None if checksums is None else _sha256(checksums)

    def staging_folder(self) -> Path:
        """Create and return the folder on this machine in which folders are filled.

        `prune` removes what killed writers leave in it.
        """
        self._copies.mkdir(parents=True, exist_ok=True)
        return self._copies

    def put(self, folder: Path, name: str) -> bool:
        """Upload a local folder with its checksums.

        Returns:
            False if another writer was first; then its folder stays.
        """
        checksums = (folder / CHECKSUMS).read_bytes()
        digest = _sha256(checksums)
        files = sorted(json.loads(checksums)["sha256"])
        self._upload(folder, f"{name}/{digest}", files)
        first = object_pointer.replace(
            self._base, f"{name}/{CHECKSUMS}", checksums.decode(), None, self._options
        )
        if first:
            self._restore_swept(folder, f"{name}/{digest}", files)
        elif self.checksums_hash(name) not in {None, digest}:
            self._delete(f"{name}/{digest}")
        return first

    def fetch(self, name: str) -> Path:
        """Return the folder's copy on this machine; download it if needed.

        The files of the copy are compared with the checksums, once per instance.

        Raises:
            ProvenanceError: the folder is missing or incomplete, or a file is missing or damaged.
        """
        for attempt in range(1, _MAX_DOWNLOADS + 1):
            checksums = self._read_checksums(name)
            if checksums is None:
                raise ProvenanceError("The folder is missing or incomplete", where=name)
            copy = self._copies / name / _sha256(checksums)
            try:
                if not self._is_usable(copy, name):
                    self._download(name, checksums, copy)
                break
            except ProvenanceError:
                if attempt == _MAX_DOWNLOADS or self._read_checksums(name) == checksums:
                    raise
                log.info("%s was replaced during the download; downloading again", name)
        os.utime(copy)
        self._checked.add((name, copy.name))
        return copy

    def remove(self, name: str) -> None:
        """Remove a folder or all folders below a prefix, and their copies on this machine."""
        for local in (self._copies, self._scratch):
            shutil.rmtree(local / name, ignore_errors=True)
        checksums = f"{self._base}/{name}/{CHECKSUMS}"
        if self._filesystem.get_file_info(checksums).type == pafs.FileType.File:
            self._filesystem.delete_file(checksums)
        self._delete(name)

    def scratch(self, name: str) -> Path:
        """Create and return a folder on this machine for temporary data, such as checkpoints.

        It is removed together with the folder `name`.
        """
        folder = self._scratch / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def modified(self, name: str) -> float:
        """Return when an object below a folder was last written, in seconds since the epoch.

        0 means that there is none.
        """
        return max((written for _, written in self._files_below(name)), default=0.0)

    def sweep(self, older_than: float) -> list[str]:
        """Remove files of killed writers, which no checksums lead to.

        Args:
            older_than: seconds since the epoch; newer files may belong to a running writer.

        Returns:
            The removed prefixes.
        """
        self.prune()
        swept = []
        for path, touched in sorted(self._last_written().items()):
            name, _, digest = path.rpartition("/")
            if touched < older_than and self.checksums_hash(name) != digest:
                self._delete(path)
                swept.append(path)
        return swept

    def prune(self) -> None:
        """Remove what is no longer needed on this machine.

        That is: copies and temporary data of removed folders, unfinished copies of killed
        processes, and all but the newest copies, unless they were used in the last day.
        """
        copies = sorted(self._copies.glob(f"**/{'[0-9a-f]' * 64}"), key=_last_used, reverse=True)
        long_ago = time.time() - LEFTOVER_SECONDS
        gone = [
            path
            for path in self._copies.glob(f"**/{UNFINISHED_PREFIX}*")
            if _last_used(path) < long_ago
        ]
        for rank, copy in enumerate(copies):
            unused = rank >= KEPT_COPIES and _last_used(copy) < long_ago
            name = copy.parent.relative_to(self._copies).as_posix()
            if unused or self.checksums_hash(name) != copy.name:
                gone.append(copy)
        gone += [
            path
            for path in self._scratch.glob("*/*")
            if not self._below(path.relative_to(self._scratch).as_posix(), recursive=False)
        ]
        for path in gone:
            log.info("removing %s from this machine", path)
            shutil.rmtree(path, ignore_errors=True)

    def _read_checksums(self, name: str) -> bytes | None:
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
            log.debug("%s was already removed", path)

    def _upload(self, folder: Path, prefix: str, files: list[str]) -> None:
        for file in files:
            target = f"{self._base}/{prefix}/{file}"
            with (
                (folder / file).open("rb") as source,
                self._filesystem.open_output_stream(target) as stream,
            ):
                shutil.copyfileobj(source, stream, _BUFFER_BYTES)

    def _restore_swept(self, folder: Path, prefix: str, files: list[str]) -> None:
        """Upload files again that a sweep removed because a killed writer had uploaded the same."""
        found = {file.removeprefix(f"{prefix}/") for file, _ in self._files_below(prefix)}
        if missing := sorted(set(files) - found):
            log.warning(
                "uploading %d files of %s again: a sweep removed them", len(missing), prefix
            )
            self._upload(folder, prefix, missing)

    def _is_usable(self, copy: Path, name: str) -> bool:
        if not (copy / CHECKSUMS).is_file():
            return False
        if (name, copy.name) in self._checked:
            return True
        try:
            verify_checksums(copy)
        except ProvenanceError as error:
            log.warning("downloading a damaged copy again: %s", error.summary)
            shutil.rmtree(copy)
            return False
        return True

    def _download(self, name: str, checksums: bytes, copy: Path) -> None:
        copy.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=UNFINISHED_PREFIX, dir=copy.parent))
        prefix = f"{name}/{copy.name}"
        try:
            for file in _listed_files(checksums, name):
                (temporary / file).parent.mkdir(parents=True, exist_ok=True)
                self._download_file(f"{prefix}/{file}", temporary / file)
            (temporary / CHECKSUMS).write_bytes(checksums)
            verify_checksums(temporary, shown=prefix)
            try:
                temporary.rename(copy)
            except OSError:
                # Another process was first.
                if not (copy / CHECKSUMS).is_file():
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self.prune()

    def _download_file(self, path: str, to: Path) -> None:
        try:
            with (
                self._filesystem.open_input_stream(f"{self._base}/{path}") as stream,
                to.open("wb") as target,
            ):
                shutil.copyfileobj(stream, target, _BUFFER_BYTES)
        except FileNotFoundError as error:
            raise ProvenanceError("A file of the folder is missing", where=path) from error
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise DiskFullError(f"No space for a copy: {error}", where=str(to)) from error
            raise

    def _last_written(self) -> dict[str, float]:
        """Map each prefix with files of a folder to its newest file's time since the epoch."""
        touched: dict[str, float] = {}
        for child in self._below("", recursive=False):
            if child.base_name == _TABLES:
                continue
            for path, modified in self._files_below(child.base_name):
                if found := _UPLOADED_FILE.fullmatch(path):
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


def _listed_files(checksums: bytes, name: str) -> list[str]:
    try:
        return sorted(json.loads(checksums)["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise ProvenanceError(
            f"The checksums cannot be read: {error}", where=f"{name}/{CHECKSUMS}"
        ) from error


def _last_used(path: Path) -> float:
    """Seconds since the epoch; 0 if another process removed the path meanwhile."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
