from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av.logging
import pytest

from features import AudioConfig, Job, Limits, MediaPool, VisualConfig
from tests.helpers import media_kinds


@pytest.fixture(scope="session", autouse=True)
def _quiet() -> None:
    av.logging.set_level(None)


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that renders a kind of file by name, once per session."""
    folder = tmp_path_factory.mktemp("kinds")
    kinds = {kind.name: kind for kind in media_kinds.KINDS}

    def get(name: str) -> Path:
        path = folder / name
        if path.exists():
            return path
        if name in kinds:
            return media_kinds.render(kinds[name], folder)
        return media_kinds.FILES[name](path)

    return get


@pytest.fixture(scope="session")
def run() -> Callable[..., dict[str, object]]:
    """Return a function that runs jobs in a pool and returns their results by key."""

    def run_jobs(
        jobs: list[Job],
        limits: Limits | None = None,
        workers: int = 1,
        visual: VisualConfig | None = None,
    ) -> dict[str, object]:
        # Load only what the jobs need: importing librosa takes seconds.
        kinds = {job.kind for job in jobs}
        visual_config = (
            (visual or VisualConfig(frames=2)) if kinds & {"video", "segments"} else None
        )
        audio_config = AudioConfig() if kinds & {"music", "segments"} else None
        with MediaPool(workers, limits or Limits(), visual_config, audio_config) as pool:
            return {job.key: result for job, result in pool.run(jobs)}

    return run_jobs
