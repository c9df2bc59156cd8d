"""Kill -9 at random points, run again: tables and releases equal those of an undisturbed run."""

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
from tests.faults.fault_report import listed
from tests.faults.fault_sites import Site, make_site


@dataclass
class Killer:
    """Calls a step some times to kill it, then once to its end."""

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
            self._look(step, outcome)
        return self.site.steps.run(step, *arguments)

    def _look(self, step: str, outcome: Outcome) -> None:
        """What holds at every moment: no child alive, every table and the release readable."""
        self.kills[step] += outcome.killed
        self.children += outcome.children
        assert outcome.alive == []
        tables(self.site.root)
        if (self.site.root / "releases" / "current.json").exists():
            Release.open(self.site.root)


def timed(site: Site, seconds: dict[str, float]) -> Call:
    """Run each step undisturbed and note the longest time that it took."""

    def call(step: str, *arguments: Any) -> Any:
        outcome = site.steps.start(step, *arguments).wait()
        assert not outcome.error, f"{step}: {outcome.error}: {outcome.message}"
        seconds[step] = max(seconds.get(step, 0.0), outcome.seconds)
        return outcome.result

    return call


def kill_through(
    folder: Path, prepare: Callable[[Site], None], night: Night, least: int, most: int
) -> tuple[Counter[str], int]:
    """Compare nights full of kills with an undisturbed one until there were enough of them.

    Returns:
        Kills by step, and the children that were at work.
    """
    calm = make_site(folder / "calm")
    prepare(calm)
    seconds: dict[str, float] = {}
    night(calm, timed(calm, seconds))
    upkeep_later(calm)
    kills: Counter[str] = Counter()
    children = 0
    for number in itertools.count():
        if kills.total() >= least:
            break
        site = make_site(folder / f"killed-{number}")
        prepare(site)
        killer = Killer(site, np.random.default_rng([7, number]), seconds, most)
        night(site, killer)
        assert differences(calm.root, site.root) == []
        upkeep_later(site)
        assert differences(calm.root, site.root) == []
        assert leftovers(site.root) == []
        kills += killer.kills
        children += killer.children
        shutil.rmtree(site.folder)
    return kills, children


@pytest.fixture
def with_media(landing_once: Path) -> Callable[[Site], None]:
    # A copy keeps the times of the files: a day is known by them.
    return lambda site: shutil.copytree(landing_once, site.landing) and None


@pytest.fixture
def with_world(world_once: Path) -> Callable[[Site], None]:
    return lambda site: copy_lake(world_once, site.root) and None


def test_statistics_survive_some_kills(tmp_path: Path, with_world: Callable[[Site], None]) -> None:
    kills, _ = kill_through(tmp_path, with_world, statistics_night, least=4, most=3)
    assert kills.total() >= 4


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_features_survive_kills(tmp_path: Path, with_media: Callable[[Site], None], record) -> None:
    kills, children = kill_through(tmp_path, with_media, media_night, least=90, most=8)
    assert children > 0
    record(
        "process killed on the way from landing to features",
        f"kill -9 at random points, then run again: {listed(kills)}; {children} decoding "
        "children were at work and ended with it",
        kills.total(),
        "nothing: tables equal an undisturbed run's, no file left over after upkeep",
    )


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_releases_survive_kills(tmp_path: Path, with_world: Callable[[Site], None], record) -> None:
    kills, _ = kill_through(tmp_path, with_world, model_night, least=120, most=8)
    record(
        "process killed on the way from features to release",
        f"kill -9 at random points, then run again: {listed(kills)}",
        kills.total(),
        "nothing: tables and every file of every release equal an undisturbed run's; the "
        "current release could be read after every kill",
    )
