"""Makes the paths of the settings absolute, and refuses paths that mean something else.

A URL or `$HOME` would otherwise become a folder of that name below the folder of the settings file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

_Model = TypeVar("_Model", bound=BaseModel)

# Path("s3://bucket") has lost a slash.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_VARIABLE = re.compile(r"\$[A-Za-z_{]")


class PathError(ValueError):
    """A path of the settings cannot be used.

    Args:
        location: section and field.
        message: what is wrong, and what to write instead.
    """

    def __init__(self, location: tuple[str, ...], message: str) -> None:
        self.location = location
        super().__init__(message)


def is_url(path: str | Path) -> bool:
    """Whether a path is a URL, such as s3://bucket, rather than a path on this machine."""
    return bool(_URL.match(str(path)))


def with_absolute_paths(settings: _Model, folder: Path) -> _Model:
    """Return the settings with absolute paths.

    Args:
        settings: `pipeline.settings.load.Settings`.
        folder: relative paths start here: the folder of the settings file.

    Raises:
        PathError: a path cannot be used, or the lake or the LanceDB sink is in the landing folder.
    """
    found: Any = settings
    lake = _absolute_unless_s3(folder, found.lake.root, ("lake", "root"))
    lancedb = _absolute_unless_s3(folder, found.release.lancedb, ("release", "lancedb"))
    landing = _absolute(folder, found.landing.root, ("landing", "root"))
    _refuse_inside_landing(lake, landing, ("lake", "root"))
    _refuse_inside_landing(lancedb, landing, ("release", "lancedb"))
    if lancedb and lancedb.rstrip("/") == lake.rstrip("/"):
        raise PathError(("release", "lancedb"), "this is the lake: write a folder of its own")
    return _updated(
        settings,
        lake=_updated(found.lake, root=lake),
        landing=_updated(found.landing, root=landing),
        release=_updated(found.release, lancedb=lancedb),
        visual=_with_absolute_encoder(folder, found.visual, ("visual",)),
        audio=_with_absolute_encoder(folder, found.audio, ("audio",)),
        candidates={
            name: _updated(
                each,
                visual=_with_absolute_encoder(folder, each.visual, ("candidates", name, "visual")),
                audio=_with_absolute_encoder(folder, each.audio, ("candidates", name, "audio")),
            )
            for name, each in found.candidates.items()
        },
    )


def _absolute(folder: Path, path: Path, location: tuple[str, ...]) -> Path:
    if is_url(path):
        raise PathError(
            location,
            "a path on this machine expected, not a URL: mount the storage, and write the path of "
            "the mount",
        )
    if _VARIABLE.search(str(path)):
        raise PathError(
            location,
            "variables such as $HOME are not replaced: write the path itself, or one that begins "
            "with ~",
        )
    try:
        return (folder / path.expanduser()).resolve()
    except RuntimeError as error:
        # `~name` without such an account.
        raise PathError(location, f"write the path itself instead of ~: {error}") from error


def _absolute_unless_s3(folder: Path, text: str, location: tuple[str, ...]) -> str:
    return text if not text or "://" in text else str(_absolute(folder, Path(text), location))


def _refuse_inside_landing(root: str, landing: Path, location: tuple[str, ...]) -> None:
    if root and not is_url(root) and Path(root).is_relative_to(landing):
        raise PathError(
            location,
            f"the folder is landing.root or inside it ({landing}): write a folder outside, because "
            "deliveries may replace everything there",
        )


def _with_absolute_encoder(folder: Path, config: Any, location: tuple[str, ...]) -> Any:
    if config is None or config.encoder is None:
        return config
    path = _absolute(folder, config.encoder.path, (*location, "encoder", "path"))
    return _updated(config, encoder=_updated(config.encoder, path=path))


def _updated(model: _Model, **values: object) -> _Model:
    return model.model_copy(update=values)
