"""Stores folders of files beside the tables: datasets, models, releases and reports.

A folder is written under a temporary name and appears atomically: by a rename on a local lake, by
`ObjectFolders` in object storage.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from features.environment import cache_folder
from pipeline.errors import LakeUnavailableError, ProvenanceError
from pipeline.settings.sections import LakeSettings
from pipeline.storage import object_pointer
from pipeline.storage.filesystem import filesystem
from pipeline.storage.folder import (
    CHECKSUMS,
    UNFINISHED_PREFIX,
    sync_folder,
    verify_checksums,
    write_atomically,
    write_checksums,
)
from pipeline.storage.locks import locked
from pipeline.storage.object_folders import ObjectFolders
from pipeline.storage.presence import create_lake, lake_exists, unfinished_lakes
from pipeline.storage.storage_errors import storage_errors, write_errors

log = logging.getLogger(__name__)

# Names of local files that deltalake is still writing.
_ENGINE_TEMPORARY = re.compile(r"#\d+$|^_commit_.*\.tmp$")


class Store:
    """Immutable folders below the lake's root, named by their relative path ("runs/ID/teacher").

    Args:
        settings: `[lake]`.
    """

    def __init__(self, settings: LakeSettings) -> None:
        self.root = settings.root.rstrip("/")
        self.remote = "://" in self.root
        self._options = dict(settings.storage_options)
        self._filesystem, self._base = filesystem(self.root, settings.storage_options)
        # Two lakes can have runs of the same name.
        cache = cache_folder() / hashlib.sha256(self.root.encode()).hexdigest()[:12]
        self._objects = ObjectFolders(self._filesystem, self._base, self._options, cache)
        self._checked: set[str] = set()
        self._seen_before = lake_exists(self.root)

    def exists(self, name: str) -> bool:
        """Return whether the folder exists and is complete.

        Raises:
            LakeUnavailableError: the storage does not answer.
        """
        path = f"{self._base}/{name}/{CHECKSUMS}"
        with storage_errors(self.root):
            return bool(self._filesystem.get_file_info(path).type == pafs.FileType.File)

    def names(self, under: str) -> list[str]:
        """Return the names of the complete folders directly below `under`, sorted."""
        return [name for name in self.children(under) if self.exists(f"{under}/{name}")]

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield a local folder to fill; it becomes `name` when the block ends without an error.

        If another process has written `name` meanwhile, its folder stays and this one is dropped:
        equal names mean equal inputs.

        Raises:
            DiskFullError: the disk is full.
            LakeAccessError: the folder is not writable.
            LakeUnavailableError: the storage does not answer.
        """
        with storage_errors(self.root):
            if not self.remote:
                self._create_parents(name)
            above = (
                self._objects.staging_folder() if self.remote else (Path(self.root) / name).parent
            )
            # Not from tempfile: the mode of the folder follows the umask.
            last = name.rpartition("/")[2]
            temporary = Path(above) / f"{UNFINISHED_PREFIX}{last}-{uuid.uuid4().hex}"
            temporary.mkdir()
        try:
            with write_errors(temporary):
                yield temporary
                with storage_errors(self.root):
                    write_checksums(temporary)
                    first = (self._objects.put if self.remote else self._put)(temporary, name)
            if not first:
                log.info("keeping %s, which another process has written meanwhile", name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _create_parents(self, name: str) -> None:
        """Create the folders above `name`, and the lake if it is new."""
        create_lake(self.root, seen_before=self._seen_before)
        self._seen_before = True
        self._create_folders(name.rpartition("/")[0])

    def _create_folders(self, name: str) -> None:
        """Create a local folder and its parents, but not the root, which may have disappeared."""
        folder = Path(self.root)
        for part in filter(None, name.split("/")):
            folder /= part
            folder.mkdir(exist_ok=True)

    def _put(self, temporary: Path, name: str) -> bool:
        final = Path(self.root) / name
        if final.is_dir() and not self.exists(name):
            self.remove(name)
        try:
            temporary.rename(final)
        except OSError:
            if not self.exists(name):
                raise
            return False
        sync_folder(final.parent)
        return True

    def fetch(self, name: str) -> Path:
        """Return the path of the folder, or of its local copy for object storage.

        The files are compared with their checksums, once per instance.

        Raises:
            ProvenanceError: the folder is missing or incomplete, or a file is missing or damaged.
            LakeUnavailableError: the storage does not answer.
        """
        if self.remote:
            with storage_errors(self.root):
                return self._objects.fetch(name)
        if not self.exists(name):
            if not lake_exists(self.root):
                raise LakeUnavailableError("There is no lake", where=self.root)
            raise ProvenanceError("The folder is missing or incomplete", where=name)
        local = Path(self.root) / name
        if name not in self._checked:
            with storage_errors(self.root):
                verify_checksums(local)
            self._checked.add(name)
        return local

    def scratch(self, name: str) -> Path:
        """Create and return a local folder for temporary data that survives a killed task.

        On a local lake it is below the root, so that a retry on any worker finds it. For object
        storage it is in the cache of this machine.
        """
        if self.remote:
            return self._objects.scratch(name)
        with storage_errors(self.root):
            self._create_parents(name)
            self._create_folders(name)
        return Path(self.root) / name

    def children(self, under: str) -> list[str]:
        """Return the names of all folders directly below `under`, complete or not, sorted."""
        selector = pafs.FileSelector(f"{self._base}/{under}", allow_not_found=True)
        with storage_errors(self.root):
            infos = self._filesystem.get_file_info(selector)
        folders = [i.base_name for i in infos if i.type == pafs.FileType.Directory]
        return sorted(name for name in folders if UNFINISHED_PREFIX not in name)

    def modified(self, name: str) -> float:
        """Return when anything below a folder was last written, in seconds since the epoch.

        0 means that there is nothing.
        """
        if self.remote:
            with storage_errors(self.root):
                return self._objects.modified(name)
        # os.walk skips folders that other processes rename or remove during the walk.
        walked = os.walk(Path(self.root) / name)
        paths = [Path(folder, name) for folder, _, files in walked for name in ("", *files)]
        times = [_modified(path) for path in paths]
        return max((time for time in times if time < math.inf), default=0.0)

    def files(self) -> Iterator[tuple[str, pa.NativeFile]]:
        """Yield the relative path of every file below the root, and the file, open for reading."""
        selector = pafs.FileSelector(self._base, recursive=True, allow_not_found=True)
        with storage_errors(self.root):
            for info in self._filesystem.get_file_info(selector):
                if info.type == pafs.FileType.File:
                    try:
                        stream = self._filesystem.open_input_file(info.path)
                    except FileNotFoundError:
                        log.debug("%s was removed meanwhile", info.path)
                        continue
                    with stream:
                        yield info.path.removeprefix(f"{self._base}/"), stream

    def remove(self, name: str) -> None:
        """Remove a folder and its copies on this machine; do nothing if there is none.

        For readers the removal is atomic. A local folder is renamed first (`sweep` removes it if
        this process is killed); in object storage the checksums are removed first.
        """
        self._checked.discard(name)
        with storage_errors(self.root):
            if self.remote:
                self._objects.remove(name)
                return
            folder = Path(self.root) / name
            temporary = folder.with_name(f"{UNFINISHED_PREFIX}{folder.name}-{uuid.uuid4().hex}")
            try:
                folder.rename(temporary)
            except FileNotFoundError:
                log.debug("%s was already removed", name)
                return
            shutil.rmtree(temporary, ignore_errors=True)

    def read_pointer(self, name: str) -> tuple[str, str] | None:
        """Read a pointer file.

        Returns:
            Its text and its version (on a local lake the text's sha256, in object storage its
            ETag) for `replace_pointer`; None if there is no such file.

        Raises:
            LakeUnavailableError: the storage does not answer.
        """
        if self.remote:
            return object_pointer.read(self._base, name, self._options)
        try:
            text = (Path(self.root) / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        return text, hashlib.sha256(text.encode()).hexdigest()

    def replace_pointer(self, name: str, text: str, expected: str | None) -> bool:
        """Replace a pointer file atomically, if it still has the expected version.

        Args:
            name: path below the root.
            text: new content.
            expected: version from `read_pointer`; None if there must be no such file.

        Returns:
            False if another writer was first; then nothing changed.

        Raises:
            DiskFullError: the disk is full.
            LakeAccessError: the folder is not writable.
            LakeUnavailableError: the storage does not answer.
        """
        if self.remote:
            return object_pointer.replace(self._base, name, text, expected, self._options)
        path = Path(self.root) / name
        with storage_errors(self.root):
            self._create_parents(name)
            with locked(path.parent):
                found = self.read_pointer(name)
                if (found[1] if found else None) != expected:
                    return False
                write_atomically(path, text)
        return True

    def sweep(self, older_than: float) -> list[str]:
        """Remove unfinished files and folders of killed writers.

        Args:
            older_than: seconds since the epoch; newer ones may belong to a running writer.

        Returns:
            The removed paths, relative to the root.
        """
        if self.remote:
            with storage_errors(self.root):
                return self._objects.sweep(older_than)
        unfinished = (*self._unfinished(), *unfinished_lakes(self.root))
        left = [path for path in unfinished if _modified(path) < older_than]
        for path in left:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        return [os.path.relpath(path, self.root) for path in left]

    def _unfinished(self) -> Iterator[Path]:
        # os.walk skips folders that other processes rename or remove during the walk.
        for folder, names, files in os.walk(self.root):
            for name in [*names, *files]:
                if name.startswith(UNFINISHED_PREFIX) or _ENGINE_TEMPORARY.search(name):
                    yield Path(folder, name)
            names[:] = [name for name in names if not name.startswith(UNFINISHED_PREFIX)]


def _modified(path: Path) -> float:
    """Seconds since the epoch; infinity if the writer has renamed the path meanwhile."""
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return math.inf
