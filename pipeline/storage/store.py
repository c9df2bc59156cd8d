"""Folders of files beside the tables: datasets, models, releases, reports.

A folder is written aside and appears whole, or not at all. On a local lake that is one rename;
for object storage see `ObjectFolders`.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
import shutil
import tempfile
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

# How the tables' storage layer names a local file that it has not finished writing.
_STAGED = re.compile(r"#\d+$|^_commit_.*\.tmp$")


class Store:
    """Immutable folders under the lake's root, named by relative path ("runs/ID/teacher")."""

    def __init__(self, settings: LakeSettings) -> None:
        self.root = settings.root.rstrip("/")
        self.remote = "://" in self.root
        self._options = dict(settings.storage_options)
        self._filesystem, self._base = filesystem(self.root, settings.storage_options)
        # Two lakes may hold a run of the same name.
        cache = cache_folder() / hashlib.sha256(self.root.encode()).hexdigest()[:12]
        self._objects = ObjectFolders(self._filesystem, self._base, self._options, cache)
        self._checked: set[str] = set()
        self._seen_before = lake_exists(self.root)

    def exists(self, name: str) -> bool:
        """Whether the folder was written to its end.

        Raises:
            LakeUnavailableError: the storage does not answer.
        """
        path = f"{self._base}/{name}/{CHECKSUMS}"
        with storage_errors(self.root):
            return bool(self._filesystem.get_file_info(path).type == pafs.FileType.File)

    def names(self, under: str) -> list[str]:
        """Names of the complete folders directly below `under`, sorted."""
        return [name for name in self.children(under) if self.exists(f"{under}/{name}")]

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A local folder to fill; it becomes `name` when the block ends without an error.

        Where `name` came to exist meanwhile (the same step ran twice at once), the first stays
        and this one is dropped: equal names mean equal inputs.

        Raises:
            DiskFullError: there is no room, or nothing may be written.
            LakeUnavailableError: the storage does not answer.
        """
        with storage_errors(self.root):
            if not self.remote:
                self._stand(name)
            above = self._objects.place() if self.remote else (Path(self.root) / name).parent
            aside = Path(
                tempfile.mkdtemp(prefix=f"{UNFINISHED_PREFIX}{name.rsplit('/')[-1]}-", dir=above)
            )
        try:
            with write_errors(aside):
                yield aside
                with storage_errors(self.root):
                    write_checksums(aside)
                    first = (self._objects.put if self.remote else self._put)(aside, name)
            if not first:
                log.info("%s was written by another process meanwhile; it stays", name)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _stand(self, name: str) -> None:
        """Make the folder that `name` will lie in, unless the whole lake has gone away."""
        create_lake(self.root, seen_before=self._seen_before)
        self._seen_before = True
        self._make(name.rpartition("/")[0])

    def _make(self, name: str) -> None:
        """Make a local folder and those above it, but not the root: it may have gone meanwhile."""
        folder = Path(self.root)
        for part in filter(None, name.split("/")):
            folder /= part
            folder.mkdir(exist_ok=True)

    def _put(self, aside: Path, name: str) -> bool:
        final = Path(self.root) / name
        aside.chmod(0o755)
        if final.is_dir() and not self.exists(name):
            self.remove(name)
        try:
            aside.rename(final)
        except OSError:
            if not self.exists(name):
                raise
            return False
        sync_folder(final.parent)
        return True

    def fetch(self, name: str) -> Path:
        """The folder as a local one, its files checked against their hashes once a `Store`.

        Raises:
            ProvenanceError: the folder is missing or incomplete, or a file is not the one written.
            LakeUnavailableError: the storage does not answer.
        """
        if self.remote:
            with storage_errors(self.root):
                return self._objects.fetch(name)
        if not self.exists(name):
            if not lake_exists(self.root):
                raise LakeUnavailableError("no such lake", where=self.root)
            raise ProvenanceError("no such folder, or not written to its end", where=name)
        local = Path(self.root) / name
        if name not in self._checked:
            with storage_errors(self.root):
                verify_checksums(local)
            self._checked.add(name)
        return local

    def scratch(self, name: str) -> Path:
        """A local folder that survives a killed task, for checkpoints; its content is no result.

        On a local lake it lies beside the run, where a retry on any worker finds it; otherwise
        in the cache of this machine.
        """
        if self.remote:
            return self._objects.scratch(name)
        with storage_errors(self.root):
            self._stand(name)
            self._make(name)
        return Path(self.root) / name

    def children(self, under: str) -> list[str]:
        """Names of all folders directly below `under`, complete or not, sorted."""
        selector = pafs.FileSelector(f"{self._base}/{under}", allow_not_found=True)
        with storage_errors(self.root):
            infos = self._filesystem.get_file_info(selector)
        folders = [i.base_name for i in infos if i.type == pafs.FileType.Directory]
        return sorted(name for name in folders if UNFINISHED_PREFIX not in name)

    def modified(self, name: str) -> float:
        """When anything below a folder was last written, in seconds since the epoch; 0: never."""
        if self.remote:
            with storage_errors(self.root):
                return self._objects.modified(name)
        # os.walk passes over folders that other processes rename or remove under it.
        walked = os.walk(Path(self.root) / name)
        paths = [Path(folder, name) for folder, _, files in walked for name in ("", *files)]
        times = [_modified(path) for path in paths]
        return max((time for time in times if time < math.inf), default=0.0)

    def files(self) -> Iterator[tuple[str, pa.NativeFile]]:
        """Every file below the root, with its relative path, open for reading."""
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
        """Remove a folder, whole in one step as readers see it.

        On a local lake it is renamed first, and `sweep` finds what a killed removal leaves; in
        object storage its manifest goes first. What this machine holds for it goes too.
        """
        self._checked.discard(name)
        with storage_errors(self.root):
            if self.remote:
                self._objects.remove(name)
                return
            folder = Path(self.root) / name
            aside = folder.with_name(f"{UNFINISHED_PREFIX}{folder.name}-{uuid.uuid4().hex}")
            try:
                folder.rename(aside)
            except FileNotFoundError:
                log.debug("%s is gone already", name)
                return
            shutil.rmtree(aside, ignore_errors=True)

    def read_pointer(self, name: str) -> tuple[str, str] | None:
        """Text of a pointer file and its version, or None where there is none.

        The version is what `replace_pointer` compares: the text's hash, in object storage its
        ETag.

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
        """Replace a pointer file in one step, if it still has the expected version.

        Args:
            name: path below the root.
            text: new content.
            expected: version that `read_pointer` gave; None: there must be no such file.

        Returns:
            False where another writer was first; nothing is changed then.

        Raises:
            DiskFullError: there is no room, or nothing may be written.
            LakeUnavailableError: the storage does not answer.
        """
        if self.remote:
            return object_pointer.replace(self._base, name, text, expected, self._options)
        path = Path(self.root) / name
        with storage_errors(self.root):
            self._stand(name)
            with locked(path.parent):
                found = self.read_pointer(name)
                if (found[1] if found else None) != expected:
                    return False
                write_atomically(path, text)
        return True

    def sweep(self, older_than: float) -> list[str]:
        """Remove what killed writers left aside before a time; return the paths from the root.

        Args:
            older_than: seconds since the epoch; younger files and folders may still be written.
        """
        if self.remote:
            with storage_errors(self.root):
                return self._objects.sweep(older_than)
        aside = (*self._aside(), *unfinished_lakes(self.root))
        left = [path for path in aside if _modified(path) < older_than]
        for path in left:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        return [os.path.relpath(path, self.root) for path in left]

    def _aside(self) -> Iterator[Path]:
        # os.walk passes over folders that other processes rename or remove under it.
        for folder, names, files in os.walk(self.root):
            for name in [*names, *files]:
                if name.startswith(UNFINISHED_PREFIX) or _STAGED.search(name):
                    yield Path(folder, name)
            names[:] = [name for name in names if not name.startswith(UNFINISHED_PREFIX)]


def _modified(path: Path) -> float:
    """Seconds since the epoch; endless for what its writer has finished meanwhile."""
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return math.inf
