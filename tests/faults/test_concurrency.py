"""Concurrent processes: the same step twice, backfill and night, two publishers, readers."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.releases.current import read_current
from tests.faults.fault_harness import call_step, copy_lake, differences, tables
from tests.faults.fault_nights import (
    Call,
    Night,
    media_night,
    model_night,
    run_backfill,
    run_day,
    run_to_gate,
    upkeep_later,
)
from tests.faults.fault_sites import DAYS, Site, make_site
from tests.faults.release_reader import ReleaseReader


class Twice:
    """Starts each step twice at once; both must succeed."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.pairs: Counter[str] = Counter()

    def __call__(self, step: str, *arguments: Any) -> Any:
        running = [self.site.steps.start(step, *arguments) for _ in range(2)]
        outcomes = [one.wait() for one in running]
        for outcome in outcomes:
            assert not outcome.error, f"{step}: {outcome.error}: {outcome.message}"
        self.pairs[step] += 1
        return outcomes[0].result


def pairs_through(folder: Path, prepare: Callable[[Site], Any], night: Night) -> Counter[str]:
    """Run a night with each step twice at once; the lake must equal that of single steps."""
    single, paired = make_site(folder / "single"), make_site(folder / "paired")
    for site in (single, paired):
        prepare(site)
    night(single, single.steps.run)
    twice = Twice(paired)
    night(paired, twice)
    assert differences(single.root, paired.root) == []
    for site in (single, paired):
        upkeep_later(site)
    assert differences(single.root, paired.root) == []
    return twice.pairs


def statistics(site: Site, call: Call) -> None:
    call("confounders", str(DAYS[0]))
    call("dataset", str(DAYS[0]))


def test_statistics_written_twice_at_once_equal_those_written_once(
    tmp_path: Path, world_once: Path
) -> None:
    pairs = pairs_through(tmp_path, lambda site: copy_lake(world_once, site.root), statistics)
    assert pairs.total() == 2


@pytest.mark.faults
@pytest.mark.timeout(1200)
def test_every_step_run_twice_at_once_gives_the_same_lake(
    tmp_path: Path, landing_once: Path, world_once: Path, record: Callable[..., None]
) -> None:
    pairs = pairs_through(
        tmp_path / "media", lambda site: shutil.copytree(landing_once, site.landing), media_night
    )
    pairs += pairs_through(
        tmp_path / "model", lambda site: copy_lake(world_once, site.root), model_night
    )
    record(
        "same step started twice at once",
        f"two processes per step, for every step: {', '.join(sorted(pairs))}",
        pairs.total(),
        "no data lost: no errors; tables and releases equal those of single steps",
    )


@pytest.mark.faults
@pytest.mark.timeout(1200)
def test_backfills_and_nights_at_once_give_the_same_lake(
    tmp_path: Path, landing_once: Path, record: Callable[..., None]
) -> None:
    days = [str(day) for day in DAYS[:2]]
    reference, busy = make_site(tmp_path / "reference"), make_site(tmp_path / "busy")
    for site in (reference, busy):
        shutil.copytree(landing_once, site.landing)
    for day in days:
        run_day(reference.steps.run, day)
    for day in days:
        busy.steps.run("ingest", day)
    start = busy.steps.start_call
    at_once = [start(run_day, call_step, day) for day in (*days, *reversed(days))]
    at_once += [start(run_backfill, call_step, *days) for _ in range(2)]
    for running in at_once:
        outcome = running.wait()
        assert not outcome.error, f"{outcome.error}: {outcome.message}"
    assert not busy.steps.run("late_days", str(DAYS[2]))
    ours, theirs = tables(reference.root), tables(busy.root)
    # Plans may differ: they depend on what was already extracted.
    assert [name for name in ours if name != "shards" and not ours[name].equals(theirs[name])] == []
    record(
        "backfills and nightly runs over the same days at once",
        "two days: two nightly runs of each and two backfills of both, in six processes at once",
        len(at_once),
        "no data lost: tables equal those of two nights in order",
    )


@pytest.mark.faults
@pytest.mark.timeout(1200)
def test_two_publishers_at_once_publish_whole_releases(
    tmp_path: Path, world_once: Path, record: Callable[..., None]
) -> None:
    site = make_site(tmp_path / "site")
    copy_lake(world_once, site.root)
    runs = [run_to_gate(site.steps.run, str(day)) for day in DAYS[:2]]
    site.steps.run("publish", runs[0])
    runs = [run_to_gate(site.steps.run, str(day)) for day in DAYS[1:]]
    with ReleaseReader(site.root) as reader:
        running = [site.steps.start("publish", run) for run in runs for _ in range(2)]
        outcomes = [one.wait() for one in running]
        current = read_current(site.store)
        assert current is not None
        assert current.run_id in runs
        (loser,) = set(runs) - {current.run_id}
        lost = [outcome for outcome in outcomes if outcome.error]
        assert all(outcome.error == "ReleaseError" for outcome in lost)
        assert all("evaluate the run again" in outcome.message for outcome in lost)
        # Clearing these tasks judges the run against the release that came first.
        for step in ("evaluate", "gate", "publish"):
            site.steps.run(step, loser)
    found = read_current(site.store)
    assert found is not None
    assert found.run_id == loser
    assert reader.failures == []
    record(
        "two publishers at once, with readers",
        "two runs, each published by two processes, all at once; the current release was opened "
        f"{reader.opened} times meanwhile",
        len(running),
        "no data lost: one run became current; the other was refused because it had been judged "
        "against the previous release, and was published after a new evaluation; every reader "
        "got a whole release",
    )
