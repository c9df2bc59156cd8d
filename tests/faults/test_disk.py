"""Full, read-only, limited and vanishing disks raise the right error and lose no data."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.context import Context
from pipeline.releases.serving import Release
from tests.faults.fault_harness import call_step, copy_lake, differences, tables
from tests.faults.fault_nights import media_night, model_night, run_to_gate
from tests.faults.fault_report import format_counts
from tests.faults.fault_sites import DAYS, Site, make_site

pytestmark = pytest.mark.faults
BLOCK = 16_384


class SmallDisk:
    """A file system in memory with an adjustable size."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def leave(self, free: int) -> None:
        """Resize the file system so that so many bytes are free."""
        disk = os.statvfs(self.folder)
        used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
        self._remount(f"size={used + free}")

    def write_protect(self, on: bool) -> None:
        self._remount("ro" if on else "rw")

    def _remount(self, option: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{option}", self.folder], check=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs permission to mount a file system in memory")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(source: Path, site: Site) -> None:
    shutil.copytree(source, site.root, dirs_exist_ok=True)


def second_night(call: Callable[..., Any]) -> str:
    """Run a second night, after one without a fault."""
    run_id = run_to_gate(call, str(DAYS[1]))
    call("publish", run_id)
    return run_id


@pytest.mark.timeout(1200)
def test_a_full_disk_loses_no_data(
    tmp_path: Path, world_once: Path, record: Callable[..., None]
) -> None:
    reference, site = make_site(tmp_path / "reference"), make_site(tmp_path / "small")
    copy_lake(world_once, reference.root)
    reference.steps.run("publish", run_to_gate(reference.steps.run, str(DAYS[0])))
    refused: Counter[str] = Counter()
    with small_disk(site.root) as disk:
        fill(reference.root, site)
        first = Release.open(site.root).release_id

        def run_with_growing_space(step: str, *arguments: Any) -> Any:
            """Give a step more and more space until it succeeds."""
            space = 0
            while True:
                disk.leave(space)
                outcome = site.steps.start(step, *arguments).wait()
                if not outcome.error:
                    return outcome.result
                assert outcome.error == "DiskFullError", outcome
                refused[step] += 1
                assert Release.open(site.root).release_id == first
                tables(site.root)
                space = max(BLOCK, 2 * space)

        second_night(run_with_growing_space)
        second_night(reference.steps.run)
        assert differences(reference.root, site.root) == []
    assert set(refused) >= {"confounders", "dataset", "teacher", "student", "evaluate", "publish"}
    record(
        "disk full",
        f"a full file system, with a little more space at each try: {format_counts(refused)}",
        refused.total(),
        "no data lost: each try ended in DiskFullError; tables and the current release stayed "
        "readable; with enough space, the night gave the same result as on a large disk",
    )


@pytest.mark.timeout(1200)
def test_a_read_only_lake_loses_no_data(
    tmp_path: Path, world_once: Path, record: Callable[..., None]
) -> None:
    reference, site = make_site(tmp_path / "reference"), make_site(tmp_path / "small")
    copy_lake(world_once, reference.root)
    reference.steps.run("publish", run_to_gate(reference.steps.run, str(DAYS[0])))
    refused: Counter[str] = Counter()
    with small_disk(site.root) as disk:
        fill(reference.root, site)

        def run_read_only_first(step: str, *arguments: Any) -> Any:
            disk.write_protect(True)
            outcome = site.steps.start(step, *arguments).wait()
            assert outcome.error == "LakeAccessError", outcome
            refused[step] += 1
            assert Release.open(site.root).video_ids
            disk.write_protect(False)
            return site.steps.run(step, *arguments)

        second_night(run_read_only_first)
        second_night(reference.steps.run)
        assert differences(reference.root, site.root) == []
    record(
        "read-only lake",
        f"mounted read-only under each step: {format_counts(refused)}",
        refused.total(),
        "no data lost: LakeAccessError, which is not retried and raises an alert at once; the "
        "current release stayed readable",
    )


def run_with_file_limit(size: int, step: str, *arguments: Any) -> Any:
    """Run a step that cannot write a file larger than `size` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return call_step(step, *arguments)


@pytest.mark.timeout(1200)
def test_a_limit_on_file_size_loses_no_data(
    tmp_path: Path, world_once: Path, record: Callable[..., None]
) -> None:
    reference, site = make_site(tmp_path / "reference"), make_site(tmp_path / "limited")
    for place in (reference, site):
        copy_lake(world_once, place.root)
    refused: Counter[str] = Counter()

    def run_limited_first(step: str, *arguments: Any) -> Any:
        for size in (600, 6_000, 60_000):
            outcome = site.steps.start_call(run_with_file_limit, size, step, *arguments).wait()
            assert outcome.error in {"DiskFullError", ""}, outcome
            refused[step] += bool(outcome.error)
        return site.steps.run(step, *arguments)

    second_night(run_limited_first)
    second_night(reference.steps.run)
    assert differences(reference.root, site.root) == []
    assert refused.total() > 10
    record(
        "limit on file size",
        f"files of at most 600, 6,000 and 60,000 bytes: {format_counts(refused)}",
        refused.total(),
        "no data lost: DiskFullError; without the limit, the night gave the same result as an "
        "undisturbed one",
    )


@pytest.mark.timeout(1200)
def test_a_lake_that_vanishes_loses_no_data(
    tmp_path: Path, landing_once: Path, world_once: Path, record: Callable[..., None]
) -> None:
    rng = np.random.default_rng(11)
    vanished: Counter[str] = Counter()
    for name, night in (("media", media_night), ("model", model_night)):
        reference, site = (
            make_site(tmp_path / name / "reference"),
            make_site(tmp_path / name / "interrupted"),
        )
        for place in (reference, site):
            if name == "media":
                shutil.copytree(landing_once, place.landing)
            else:
                copy_lake(world_once, place.root)
        seconds: dict[str, float] = {}

        def timed(
            step: str,
            *arguments: Any,
            reference: Site = reference,
            seconds: dict[str, float] = seconds,
        ) -> Any:
            outcome = reference.steps.start(step, *arguments).wait()
            assert not outcome.error, outcome
            seconds[step] = max(seconds.get(step, 0), outcome.seconds)
            return outcome.result

        def interrupted(
            step: str, *arguments: Any, site: Site = site, seconds: dict[str, float] = seconds
        ) -> Any:
            if site.root.exists():
                vanished[step] += vanish(site, step, arguments, rng.uniform(0, seconds[step]))
            return site.steps.run(step, *arguments)

        night(reference, timed)
        night(site, interrupted)
        assert differences(reference.root, site.root) == []
    assert vanished.total() >= 15
    record(
        "lake that disappears while a step runs, and comes back",
        f"moved away at random points: {format_counts(vanished)}",
        vanished.total(),
        "no data lost: LakeUnavailableError, which is retried; no step created a second lake",
    )


def run_with_flag(flag: str, step: str, *arguments: Any) -> Any:
    """Run a step that creates a flag file when it has opened its lake."""
    load = Context.load

    def load_and_flag() -> Context:
        context = load()
        assert context.lake
        assert context.store
        Path(flag).touch()
        return context

    Context.load = staticmethod(load_and_flag)
    return call_step(step, *arguments)


def vanish(site: Site, step: str, arguments: tuple[Any, ...], delay: float) -> bool:
    """Move the lake away while a step runs; return whether the step failed."""
    away, flag = site.folder / "away", site.folder / "found"
    flag.unlink(missing_ok=True)
    running = site.steps.start_call(run_with_flag, str(flag), step, *arguments)
    while running.process.is_alive() and not flag.exists():
        time.sleep(0.01)
    running.process.join(delay)
    site.root.rename(away)
    outcome = running.wait()
    assert not site.root.exists(), f"{step} created another lake"
    away.rename(site.root)
    assert outcome.error in {"", "LakeUnavailableError"}, outcome
    return bool(outcome.error)
