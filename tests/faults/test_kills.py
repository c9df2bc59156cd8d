"""Kill -9 at random points, run again: tables and releases equal those of an undisturbed run."""

from __future__ import annotations

import datetime as dt
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import DAYS, Site, make_site
from fault_harness import Outcome, age, copy_lake, differences, leftovers, tables

from pipeline.catalog import id_hash
from pipeline.lake import Lake
from pipeline.schemas import TABLES
from pipeline.serving import Release

Call = Callable[..., Any]
Night = Callable[[Site, Call], None]


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


def media_night(site: Site, call: Call) -> None:
    """Landing to features, two days, and upkeep."""
    for day in map(str, DAYS[:2]):
        call("ingest", day)
        for shard in call("plan", [day]):
            call("extract", shard["plan"], shard["shard"])
        call("check", day)
    request_deletion(site.lake, "video", "v2")
    upkeep(call)


def model_night(site: Site, call: Call) -> None:
    """Features to releases, three of them, a deletion, and upkeep."""
    for day in map(str, DAYS):
        call("confounders", day)
        run_id = call("dataset", day)["run_id"]
        for step in ("teacher", "student", "evaluate"):
            call(step, run_id)
        assert call("gate", run_id)["decision"] == "publish"
        call("publish", run_id)
    request_deletion(site.lake, "uploader", "u00000003")
    upkeep(call)


def upkeep(call: Call) -> None:
    for step in ("apply_deletions", "retention", "compaction"):
        call(step)


def request_deletion(lake: Lake, kind: str, name: str) -> None:
    now = dt.datetime(2026, 3, 4, tzinfo=dt.UTC)
    row = {"kind": kind, "id_hash": id_hash(kind, name), "requested_at": now, "dt": DAYS[2]}
    lake.add("deletions", TABLES["deletions"].frame([row]))


def upkeep_later(site: Site) -> None:
    """Two days on, when no task can be writing any more."""
    age(site.root)
    upkeep(site.steps.run)


def kill_through(
    folder: Path, prepare: Callable[[Site], None], night: Night, rounds: int, most: int
) -> tuple[Counter[str], int]:
    """Compare nights full of kills with an undisturbed one; kills by step, and children met."""
    calm = make_site(folder / "calm")
    prepare(calm)
    seconds: dict[str, float] = {}
    night(calm, timed(calm, seconds))
    upkeep_later(calm)
    kills: Counter[str] = Counter()
    children = 0
    for number in range(rounds):
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


def described(kills: Counter[str]) -> str:
    return ", ".join(f"{step} {count}" for step, count in sorted(kills.items()))


def statistics_night(site: Site, call: Call) -> None:
    """The short half of a retraining, and upkeep."""
    call("confounders", str(DAYS[0]))
    call("dataset", str(DAYS[0]))
    upkeep(call)


def test_statistics_survive_some_kills(tmp_path: Path, with_world: Callable[[Site], None]) -> None:
    kills, _ = kill_through(tmp_path, with_world, statistics_night, rounds=1, most=2)
    assert kills.total() > 0


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_features_survive_kills(tmp_path: Path, with_media: Callable[[Site], None], record) -> None:
    kills, children = kill_through(tmp_path, with_media, media_night, rounds=6, most=3)
    assert kills.total() >= 90
    assert children > 0
    record(
        "process killed on the way from landing to features",
        f"kill -9 at random points, then run again: {described(kills)}; {children} decoding "
        "children were at work and ended with it",
        kills.total(),
        "nothing: tables equal an undisturbed run's, no file left over after upkeep",
    )


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_releases_survive_kills(tmp_path: Path, with_world: Callable[[Site], None], record) -> None:
    kills, _ = kill_through(tmp_path, with_world, model_night, rounds=4, most=3)
    assert kills.total() >= 110
    record(
        "process killed on the way from features to release",
        f"kill -9 at random points, then run again: {described(kills)}",
        kills.total(),
        "nothing: tables and every file of every release equal an undisturbed run's; the "
        "current release could be read after every kill",
    )
