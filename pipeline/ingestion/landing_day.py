"""The landing contract: what a day's folder holds, trusted in nothing and only ever read."""

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
    """One `landing/dt=D` folder. It is only ever read."""

    def __init__(self, root: Path, day: dt.date) -> None:
        self.day = day
        self.folder = root / f"dt={day.isoformat()}"

    def require_success(self) -> None:
        """Check that the day is complete.

        Raises:
            DayNotReadyError: with the path of the missing `_SUCCESS`.
            LandingAccessError: nobody can say, for the folder may not be searched.
        """
        success = self.folder / SUCCESS
        try:
            there = success.is_file()
        except OSError as error:
            raise as_landing_error(error, self.folder) from error
        if not there:
            raise DayNotReadyError("the day is not complete", where=str(success))

    @property
    def is_complete(self) -> bool:
        """Whether the delivering system has written `_SUCCESS`, as far as can be seen."""
        try:
            self.require_success()
        except PipelineError:
            return False
        return True

    def manifest(self, name: str) -> Manifest:
        """Read `videos`, `music` or `deletions`; an absent `deletions` has no rows.

        Raises:
            ManifestError: the file is absent, a symbolic link or no regular file, there are two,
                or it cannot be read as a whole.
            LandingAccessError: the operating system refuses to read it.
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
                raise ManifestError("a symbolic link", where=str(path))
        modes.pop(self.folder, None)
        for path, mode in modes.items():
            if not stat.S_ISREG(mode):
                raise ManifestError("no regular file", where=str(path))
        if len(modes) > 1:
            raise ManifestError("one format only", where=", ".join(map(str, modes)))
        if not modes:
            if name == "deletions":
                return Manifest([], [], name)
            raise ManifestError(
                f"no {name}.parquet, .csv or .jsonl in the day", where=str(self.folder)
            )
        (file,) = modes
        return read_manifest(file, table)

    def _manifest_files(self, name: str) -> list[Path]:
        return [self.folder / f"{name}.{extension}" for extension in FORMATS]

    def fingerprint(self, salt: str) -> str:
        """Hash over every file's path, size, time and mode, and the manifests' bytes.

        Args:
            salt: whatever else must lead to a new ingest when it changes (settings).
        """
        digest = hashlib.sha256(salt.encode())
        manifests = {path for name in MANIFESTS for path in self._manifest_files(name)}
        for path in [self.folder, *sorted(self.folder.rglob("*"))]:
            # Names are bytes to the system: a file that nobody asked for may have any.
            digest.update(os.fsencode(path.relative_to(self.folder)))
            try:
                state = path.lstat()
                digest.update(f"\0{state.st_mode}\n".encode())
                if stat.S_ISREG(state.st_mode):
                    digest.update(f"{state.st_size} {state.st_mtime_ns}\n".encode())
                    if path in manifests:
                        digest.update(path.read_bytes())
            except OSError as error:
                # Removed meanwhile, or not to be read; when that changes, so does the hash.
                digest.update(f"\0{error.strerror}\n".encode())
        return digest.hexdigest()

    def resolve(self, media_path: str) -> Path | None:
        """The file a manifest names, or None where the path leaves the day's folder.

        Symbolic links are refused whatever they point at: what they mean can change later.
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
                # A name too long, a folder that may not be searched: opening it says the same.
                log.debug("%s: %s", path, error)
                break
        return self.folder / relative


def landing_days(root: Path) -> list[dt.date]:
    """The days a landing folder holds, complete or not, in order; what is no day is passed by.

    Raises:
        LandingAccessError: the folder may not be read.
    """
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    except FileNotFoundError:
        log.warning("there is no landing folder %s", root)
        return []
    except OSError as error:
        raise as_landing_error(error, root) from error
    days = []
    for entry in entries:
        if _is_day(entry):
            days.append(dt.date.fromisoformat(entry.name.removeprefix("dt=")))
        elif entry.name.startswith("dt="):
            log.warning("%s is no landing day, which is a folder dt=YYYY-MM-DD", entry.path)
    return days


def _is_day(entry: os.DirEntry[str]) -> bool:
    try:
        day = dt.date.fromisoformat(entry.name.removeprefix("dt="))
        # `fromisoformat` takes other spellings too: only one of them names the day's folder.
        return entry.name == f"dt={day}" and entry.is_dir()
    except (ValueError, OSError):
        return False
