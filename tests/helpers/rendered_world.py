"""A tiny world to render, and what its tests read from it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipeline.ingestion.landing_day import LandingDay
from simulation.plan import SMALL_WORLD

TINY = SMALL_WORLD.model_copy(
    update={"n_videos": 6, "n_music": 8, "n_uploaders": 2, "n_pgc": 1, "segments_per_pgc": 2}
)


def file_hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def manifest_rows(day: LandingDay, name: str) -> list[dict[str, object]]:
    manifest = day.manifest(name)
    assert manifest.bad == []
    return [row for _, row in manifest.rows]
