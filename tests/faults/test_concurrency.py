"""Two at once: the same step, a backfill and the night, two publishers, readers meanwhile."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.releases.current import read_current
from pipeline.releases.serving import Release
from tests.faults.fault_harness import call_step, copy_lake, differences, tables
from tests.faults.fault_nights import (
    Call,
    Night,
    judged,
    media_night,
    model_night,
    run_backfill,
    run_day,
    upkeep_later,
)
from tests.faults.fault_sites import DAYS, Site, make_site


class Twice:
    """Starts each step twice at once; both must end well and say the same."""

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
    """Compare a night of steps in pairs with one of single steps."""
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


def test_statistics_may_be_written_twice_at_once(tmp_path: Path, world_once: Path) -> None:
    pairs = pairs_through(tmp_path, lambda site: copy_lake(world_once, site.root), statistics)
    assert pairs.total() == 2


@pytest.mark.faults
@pytest.mark.timeout(1200)
def test_every_step_may_run_twice_at_once(
    tmp_path: Path, landing_once: Path, world_once: Path, record: Callable[..., None]
) -> None:
    pairs = pairs_through(
        tmp_path / "media", lambda site: shutil.copytree(landing_once, site.landing), media_night
    )
    pairs += pairs_through(
        tmp_path / "model", lambda site: copy_lake(world_once, site.root), model_night
    )
    record(
        "the same step started twice at once",
        f"two processes a step, over every step: {', '.join(sorted(pairs))}",
        pairs.total(),
        "nothing: no error, tables and releases equal those of single steps",
    )


@pytest.mark.faults
@pytest.mark.timeout(1200)
def test_backfill_and_nights_may_meet(
    tmp_path: Path, landing_once: Path, record: Callable[..., None]
) -> None:
    days = [str(day) for day in DAYS[:2]]
    calm, busy = make_site(tmp_path / "calm"), make_site(tmp_path / "busy")
    for site in (calm, busy):
        shutil.copytree(landing_once, site.landing)
    for day in days:
        run_day(calm.steps.run, day)
    for day in days:
        busy.steps.run("ingest", day)
    start = busy.steps.start_call
    at_once = [start(run_day, call_step, day) for day in (*days, *reversed(days))]
    at_once += [start(run_backfill, call_step, *days) for _ in range(2)]
    for running in at_once:
        outcome = running.wait()
        assert not outcome.error, f"{outcome.error}: {outcome.message}"
    assert not busy.steps.run("late_days", str(DAYS[2]))
    ours, theirs = tables(calm.root), tables(busy.root)
    # Plans depend on what was left to do when they were made.
    assert [name for name in ours if name != "shards" and not ours[name].equals(theirs[name])] == []
    record(
        "a backfill and the nights over the same days at once",
        "two days, each run by two nights and two backfills in processes of their own, all at once",
        len(at_once),
        "nothing: tables equal those of two nights in order",
    )


@pytest.mark.faults
@pytest.mark.timeout(1200)
def test_two_publishers_at_once_and_readers_meanwhile(
    tmp_path: Path, world_once: Path, record: Callable[..., None]
) -> None:
    site = make_site(tmp_path / "site")
    copy_lake(world_once, site.root)
    runs = [judged(site.steps.run, str(day)) for day in DAYS[:2]]
    site.steps.run("publish", runs[0])
    runs = [judged(site.steps.run, str(day)) for day in DAYS[1:]]
    with Reader(site.root) as reader:
        running = [site.steps.start("publish", run) for run in runs for _ in range(2)]
        outcomes = [one.wait() for one in running]
        current = read_current(site.store)
        assert current is not None
        assert current.run_id in runs
        (loser,) = set(runs) - {current.run_id}
        lost = [outcome for outcome in outcomes if outcome.error]
        assert all(outcome.error == "ReleaseError" for outcome in lost)
        assert all("evaluate it again" in outcome.message for outcome in lost)
        # What a cleared run does: it is judged against the release that came first.
        for step in ("evaluate", "gate", "publish"):
            site.steps.run(step, loser)
    found = read_current(site.store)
    assert found is not None
    assert found.run_id == loser
    assert reader.failures == []
    record(
        "two publishers at once, readers meanwhile",
        f"two runs published by two processes each, at once; the current release opened "
        f"{reader.opened} times meanwhile",
        len(running),
        "nothing: one run became current; the other was refused, because it was judged against "
        "the release before, and followed once judged again; every reader had a whole release",
    )


class Reader:
    """Opens the current release over and over, and asks it."""

    def __init__(self, root: Path) -> None:
        self.opened = 0
        self.failures: list[str] = []
        self._root = root
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._done.is_set():
            try:
                release = Release.open(self._root)
                assert release.recommend_known(release.video_ids[0], top=3)
                self.opened += 1
            except Exception as error:
                self.failures.append(repr(error))
