"""Steps killed at random points and run again give the same lake as undisturbed steps."""

from __future__ import annotations

import itertools
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.releases.serving import Release
from tests.faults.fault_harness import Outcome, copy_lake, differences, leftovers, tables
from tests.faults.fault_nights import (
    Call,
    Night,
    media_night,
    model_night,
    statistics_night,
    upkeep_later,
)
from tests.faults.fault_report import format_counts
from tests.faults.fault_sites import Site, make_site


@dataclass
class Killer:
    """Starts a step a random number of times to kill it, then runs it to its end.

    Attributes:
        site: of the steps.
        rng: draws the number of kills and their times.
        seconds: that each step takes undisturbed.
        most: kills per step.
        kills: so far, per step.
        children: running child processes when their parents were killed.
    """

    site: Site
    rng: np.random.Generator
    seconds: dict[str, float]
    most: int
    kills: Counter[str] = field(default_factory=Counter)
    children: int = 0

    def __call__(self, step: str, *arguments: Any) -> Any:
        for _ in range(self.rng.integers(0, self.most + 1)):
            delay = self.rng.uniform(0, 1.05 * self.seconds[step])
            outcome = self.site.steps.start(step, *arguments).kill_after(delay)
            assert not outcome.error, f"{step}: {outcome.error}: {outcome.message}"
            self._check(step, outcome)
        return self.site.steps.run(step, *arguments)

    def _check(self, step: str, outcome: Outcome) -> None:
        """Check what must hold after a kill: no child alive, tables and the release readable."""
        self.kills[step] += outcome.killed
        self.children += outcome.children
        assert outcome.alive == []
        tables(self.site.root)
        if (self.site.root / "releases" / "current.json").exists():
            Release.open(self.site.root)


def timed(site: Site, seconds: dict[str, float]) -> Call:
    """Return a call that runs steps undisturbed and stores the longest time of each."""

    def call(step: str, *arguments: Any) -> Any:
        outcome = site.steps.start(step, *arguments).wait()
        assert not outcome.error, f"{step}: {outcome.error}: {outcome.message}"
        seconds[step] = max(seconds.get(step, 0.0), outcome.seconds)
        return outcome.result

    return call


def kill_through(
    folder: Path, prepare: Callable[[Site], None], night: Night, least: int, most: int
) -> tuple[Counter[str], int]:
    """Compare disturbed nights with an undisturbed one until there were enough kills.

    Returns:
        Kills per step, and the number of running child processes when their parents were killed.
    """
    reference = make_site(folder / "reference")
    prepare(reference)
    seconds: dict[str, float] = {}
    night(reference, timed(reference, seconds))
    upkeep_later(reference)
    kills: Counter[str] = Counter()
    children = 0
    for number in itertools.count():
        if kills.total() >= least:
            break
        site = make_site(folder / f"killed-{number}")
        prepare(site)
        killer = Killer(site, np.random.default_rng([7, number]), seconds, most)
        night(site, killer)
        assert differences(reference.root, site.root) == []
        upkeep_later(site)
        assert differences(reference.root, site.root) == []
        assert leftovers(site.root) == []
        kills += killer.kills
        children += killer.children
        shutil.rmtree(site.folder)
    return kills, children


@pytest.fixture
def with_media(landing_once: Path) -> Callable[[Site], None]:
    # copytree keeps the times of the files, by which ingestion detects a changed day.
    return lambda site: shutil.copytree(landing_once, site.landing) and None


@pytest.fixture
def with_world(world_once: Path) -> Callable[[Site], None]:
    return lambda site: copy_lake(world_once, site.root) and None


def test_statistics_survive_a_few_kills(tmp_path: Path, with_world: Callable[[Site], None]) -> None:
    kills, _ = kill_through(tmp_path, with_world, statistics_night, least=4, most=3)
    assert kills.total() >= 4


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_features_survive_kills(tmp_path: Path, with_media: Callable[[Site], None], record) -> None:
    kills, children = kill_through(tmp_path, with_media, media_night, least=90, most=8)
    assert children > 0
    record(
        "process killed between landing and features",
        f"kill -9 at random points, then a re-run: {format_counts(kills)}; {children} decoding "
        "processes were running and ended too",
        kills.total(),
        "no data lost: tables equal those of an undisturbed run; no file left over after upkeep",
    )


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_releases_survive_kills(tmp_path: Path, with_world: Callable[[Site], None], record) -> None:
    kills, _ = kill_through(tmp_path, with_world, model_night, least=120, most=8)
    record(
        "process killed between features and release",
        f"kill -9 at random points, then a re-run: {format_counts(kills)}",
        kills.total(),
        "no data lost: tables and every file of every release equal those of an undisturbed run; "
        "the current release was readable after every kill",
    )
