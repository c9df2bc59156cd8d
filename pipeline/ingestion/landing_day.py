"""Reads the folder of a landing day. Its content is not trusted, and never changed."""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import os
import stat
from pathlib import Path

from pipeline.errors import DayNotReadyError, ManifestError, PipelineError
from pipeline.ingestion.manifest import Manifest, as_landing_error, read_manifest
from pipeline.lake.schemas import LANDING

log = logging.getLogger(__name__)

SUCCESS = "_SUCCESS"
FORMATS = ("parquet", "csv", "jsonl")
MANIFESTS = ("videos", "music", "deletions")


class LandingDay:
    """One `dt=D` folder of the landing area.

    Args:
        root: the landing area.
        day: the landing day.
    """

    def __init__(self, root: Path, day: dt.date) -> None:
        self.day = day
        self.folder = root / f"dt={day.isoformat()}"

    def require_success(self) -> None:
        """Check that the day is complete.

        Raises:
            DayNotReadyError: there is no `_SUCCESS` file.
            LandingAccessError: the operating system does not permit reading the folder.
            LandingUnavailableError: the storage does not answer.
        """
        success = self.folder / SUCCESS
        try:
            complete = success.is_file()
        except OSError as error:
            raise as_landing_error(error, self.folder) from error
        if not complete:
            raise DayNotReadyError(
                "The day is not complete yet: `_SUCCESS` is missing", where=str(success)
            )

    @property
    def is_complete(self) -> bool:
        """Whether the day has `_SUCCESS`; False if the folder cannot be read."""
        try:
            self.require_success()
        except PipelineError:
            return False
        return True

    def manifest(self, name: str) -> Manifest:
        """Read a manifest.

        Args:
            name: `videos`, `music` or `deletions`; a missing `deletions` has no rows.

        Raises:
            ManifestError: the file is missing, a symbolic link or not a regular file, there are two
                formats, or the file cannot be read.
            LandingAccessError: the operating system does not permit reading it.
            LandingUnavailableError: the storage does not answer.
        """
        table = LANDING["deletion_requests" if name == "deletions" else f"landing_{name}"]
        modes = {}
        for path in (self.folder, *self._manifest_files(name)):
            try:
                modes[path] = path.lstat().st_mode
            except FileNotFoundError:
                continue
            except OSError as error:
                raise as_landing_error(error, path) from error
            if stat.S_ISLNK(modes[path]):
                raise ManifestError("The manifest is a symbolic link", where=str(path))
        modes.pop(self.folder, None)
        for path, mode in modes.items():
            if not stat.S_ISREG(mode):
                raise ManifestError("The manifest is not a regular file", where=str(path))
        if len(modes) > 1:
            raise ManifestError(
                "The manifest exists in several formats; only one is permitted",
                where=", ".join(map(str, modes)),
            )
        if not modes:
            if name == "deletions":
                return Manifest([], [], name)
            raise ManifestError(
                f"The day has no {name}.parquet, {name}.csv or {name}.jsonl", where=str(self.folder)
            )
        (file,) = modes
        return read_manifest(file, table)

    def _manifest_files(self, name: str) -> list[Path]:
        return [self.folder / f"{name}.{extension}" for extension in FORMATS]

    def fingerprint(self, salt: str) -> str:
        """Return a hash of all files: paths and modes, bytes of manifests, size and time of media.

        The times of the manifests and of `_SUCCESS` are left out, because their bytes decide
        whether they have changed. Media are too large to be read for this.

        Args:
            salt: text of the settings whose change must lead to a new ingest.
        """
        digest = hashlib.sha256(salt.encode())
        small = {path for name in MANIFESTS for path in self._manifest_files(name)}
        small.add(self.folder / SUCCESS)
        for path in [self.folder, *sorted(self.folder.rglob("*"))]:
            # File names are bytes; an unexpected file can have a name that is not UTF-8.
            digest.update(os.fsencode(path.relative_to(self.folder)))
            try:
                state = path.lstat()
                digest.update(f"\0{state.st_mode}\n".encode())
                if stat.S_ISREG(state.st_mode) and path in small:
                    digest.update(f"{state.st_size}\n".encode() + path.read_bytes())
                elif stat.S_ISREG(state.st_mode):
                    digest.update(f"{state.st_size} {state.st_mtime_ns}\n".encode())
            except OSError as error:
                # The file was removed or cannot be read. When that changes, the hash changes too.
                digest.update(f"\0{error.strerror}\n".encode())
        return digest.hexdigest()

    def resolve(self, media_path: str) -> Path | None:
        """Return the path of a media file, or None if it leaves the day's folder.

        A path with a symbolic link is refused too, because the link's target can change.

        Args:
            media_path: path from a manifest, relative to the day's folder.
        """
        relative = Path(media_path)
        if relative.is_absolute() or ".." in relative.parts or "\0" in media_path:
            return None
        path = self.folder
        for part in relative.parts:
            path = path / part
            try:
                if path.is_symlink():
                    return None
            except OSError as error:
                # The name is too long or a folder cannot be searched. Opening the file fails too.
                log.debug("%s: %s", path, error)
                break
        return self.folder / relative


def landing_days(root: Path) -> list[dt.date]:
    """Return the days of the landing area, complete or not, in order.

    Other files and folders are ignored; those named `dt=...` are logged.

    Raises:
        LandingAccessError: the operating system does not permit reading the folder.
        LandingUnavailableError: the storage does not answer.
    """
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    except FileNotFoundError:
        log.warning("the landing folder %s does not exist", root)
        return []
    except OSError as error:
        raise as_landing_error(error, root) from error
    days = []
    for entry in entries:
        if _is_day(entry):
            days.append(dt.date.fromisoformat(entry.name.removeprefix("dt=")))
        elif entry.name.startswith("dt="):
            log.warning("ignoring %s: a landing day is a folder dt=YYYY-MM-DD", entry.path)
    return days


def _is_day(entry: os.DirEntry[str]) -> bool:
    try:
        day = dt.date.fromisoformat(entry.name.removeprefix("dt="))
        # `fromisoformat` accepts other spellings too, but the folder has only this name.
        return entry.name == f"dt={day}" and entry.is_dir()
    except (ValueError, OSError):
        return False
