"""Disks that fill up, take nothing, or go away: the right error, and nothing lost."""

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
from tests.faults.fault_nights import judged, media_night, model_night
from tests.faults.fault_report import listed
from tests.faults.fault_sites import DAYS, Site, make_site

pytestmark = pytest.mark.faults
BLOCK = 16_384


class SmallDisk:
    """A file system of its own, in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def leave(self, free: int) -> None:
        """Let so many bytes be free, and no more."""
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
        pytest.skip("needs the right to mount a file system in memory")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(source: Path, site: Site) -> None:
    shutil.copytree(source, site.root, dirs_exist_ok=True)


def night_on(call: Callable[..., Any]) -> str:
    """A second night, after one with room enough."""
    run_id = judged(call, str(DAYS[1]))
    call("publish", run_id)
    return run_id


@pytest.mark.timeout(1200)
def test_disk_full(tmp_path: Path, world_once: Path, record: Callable[..., None]) -> None:
    calm, site = make_site(tmp_path / "calm"), make_site(tmp_path / "small")
    copy_lake(world_once, calm.root)
    calm.steps.run("publish", judged(calm.steps.run, str(DAYS[0])))
    refused: Counter[str] = Counter()
    with small_disk(site.root) as disk:
        fill(calm.root, site)
        first = Release.open(site.root).release_id

        def squeezed(step: str, *arguments: Any) -> Any:
            """Give a step more and more room until it ends well."""
            room = 0
            while True:
                disk.leave(room)
                outcome = site.steps.start(step, *arguments).wait()
                if not outcome.error:
                    return outcome.result
                assert outcome.error == "DiskFullError", outcome
                refused[step] += 1
                assert Release.open(site.root).release_id == first
                tables(site.root)
                room = max(BLOCK, 2 * room)

        night_on(squeezed)
        night_on(calm.steps.run)
        assert differences(calm.root, site.root) == []
    assert set(refused) >= {"confounders", "dataset", "teacher", "student", "evaluate", "publish"}
    record(
        "disk full",
        f"a full file system, with a little more room at each try: {listed(refused)}",
        refused.total(),
        "nothing: each try ended in DiskFullError, tables and the current release stayed "
        "readable, and with room enough the night ended as on a large disk",
    )


@pytest.mark.timeout(1200)
def test_read_only_lake(tmp_path: Path, world_once: Path, record: Callable[..., None]) -> None:
    calm, site = make_site(tmp_path / "calm"), make_site(tmp_path / "small")
    copy_lake(world_once, calm.root)
    calm.steps.run("publish", judged(calm.steps.run, str(DAYS[0])))
    refused: Counter[str] = Counter()
    with small_disk(site.root) as disk:
        fill(calm.root, site)

        def protected(step: str, *arguments: Any) -> Any:
            disk.write_protect(True)
            outcome = site.steps.start(step, *arguments).wait()
            assert outcome.error == "DiskFullError", outcome
            refused[step] += 1
            assert Release.open(site.root).video_ids
            disk.write_protect(False)
            return site.steps.run(step, *arguments)

        night_on(protected)
        night_on(calm.steps.run)
        assert differences(calm.root, site.root) == []
    record(
        "a lake that may only be read",
        f"mounted read-only under each step: {listed(refused)}",
        refused.total(),
        "nothing: DiskFullError, which wakes somebody at once; the current release stayed readable",
    )


def limited(size: int, step: str, *arguments: Any) -> Any:
    """Run a step that may write no file larger than `size` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return call_step(step, *arguments)


@pytest.mark.timeout(1200)
def test_quota(tmp_path: Path, world_once: Path, record: Callable[..., None]) -> None:
    calm, site = make_site(tmp_path / "calm"), make_site(tmp_path / "limited")
    for place in (calm, site):
        copy_lake(world_once, place.root)
    refused: Counter[str] = Counter()

    def rationed(step: str, *arguments: Any) -> Any:
        for size in (600, 6_000, 60_000):
            outcome = site.steps.start_call(limited, size, step, *arguments).wait()
            assert outcome.error in {"DiskFullError", ""}, outcome
            refused[step] += bool(outcome.error)
        return site.steps.run(step, *arguments)

    night_on(rationed)
    night_on(calm.steps.run)
    assert differences(calm.root, site.root) == []
    assert refused.total() > 10
    record(
        "a quota on files",
        f"files of at most 600, 6,000 and 60,000 bytes: {listed(refused)}",
        refused.total(),
        "nothing: DiskFullError; without the quota the night ended as one without disturbance",
    )


@pytest.mark.timeout(1200)
def test_vanished_lake(
    tmp_path: Path, landing_once: Path, world_once: Path, record: Callable[..., None]
) -> None:
    rng = np.random.default_rng(11)
    cut: Counter[str] = Counter()
    for name, night in (("media", media_night), ("model", model_night)):
        calm, site = make_site(tmp_path / name / "calm"), make_site(tmp_path / name / "shaky")
        for place in (calm, site):
            if name == "media":
                shutil.copytree(landing_once, place.landing)
            else:
                copy_lake(world_once, place.root)
        seconds: dict[str, float] = {}

        def timed(
            step: str, *arguments: Any, calm: Site = calm, seconds: dict[str, float] = seconds
        ) -> Any:
            outcome = calm.steps.start(step, *arguments).wait()
            assert not outcome.error, outcome
            seconds[step] = max(seconds.get(step, 0), outcome.seconds)
            return outcome.result

        def shaky(
            step: str, *arguments: Any, site: Site = site, seconds: dict[str, float] = seconds
        ) -> Any:
            if site.root.exists():
                cut[step] += vanish(site, step, arguments, rng.uniform(0, seconds[step]))
            return site.steps.run(step, *arguments)

        night(calm, timed)
        night(site, shaky)
        assert differences(calm.root, site.root) == []
    assert cut.total() >= 15
    record(
        "a lake that goes away while a step runs, and comes back",
        f"moved away at random points: {listed(cut)}",
        cut.total(),
        "nothing: LakeUnavailableError, which is retried; no second lake was begun in its place",
    )


def announced(flag: str, step: str, *arguments: Any) -> Any:
    """Run a step that touches a file once it has found its lake."""
    load = Context.load

    def found() -> Context:
        context = load()
        assert context.lake
        assert context.store
        Path(flag).touch()
        return context

    Context.load = staticmethod(found)
    return call_step(step, *arguments)


def vanish(site: Site, step: str, arguments: tuple[Any, ...], delay: float) -> bool:
    """Move the lake away under a step; whether that met it."""
    away, flag = site.folder / "away", site.folder / "found"
    flag.unlink(missing_ok=True)
    running = site.steps.start_call(announced, str(flag), step, *arguments)
    while running.process.is_alive() and not flag.exists():
        time.sleep(0.01)
    running.process.join(delay)
    site.root.rename(away)
    outcome = running.wait()
    assert not site.root.exists(), f"{step} began another lake"
    away.rename(site.root)
    assert outcome.error in {"", "LakeUnavailableError"}, outcome
    return bool(outcome.error)
