"""Deletion, upkeep, publication and rollback, all at once, with readers meanwhile."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.lake.schemas import TABLES
from pipeline.publishing import history
from pipeline.releases.current import read_current
from pipeline.releases.verify import verify_folder
from pipeline.settings.load import load_settings
from pipeline.storage.store import Store
from pipeline.upkeep.erasure_search import find_traces
from tests.faults.fault_harness import copy_lake, leftovers
from tests.faults.fault_nights import judged, request_deletion, upkeep_later
from tests.faults.fault_sites import DAYS, make_site
from tests.faults.test_concurrency import Reader

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

UPLOADERS = ["u00000003", "u00000007", "u00000011"]
SWITCHES = 6
# What a step may say when the run that it works on is erased under it, or another came first.
MAY_SAY = {"ProvenanceError", "ReleaseError"}


def back_and_forth() -> Counter[str]:
    """Roll back and put the newest release forward, as somebody does who is not sure."""
    settings = load_settings()
    store = Store(settings.lake)
    said: Counter[str] = Counter()
    for number in range(SWITCHES):
        time.sleep(0.3)
        try:
            if number % 2:
                newest = history.list_releases(store)[0].release_id
                history.promote(settings, store, newest, "forward")
            else:
                history.rollback(settings, store)
            said["done"] += 1
        except PipelineError as error:
            said[type(error).__name__] += 1
    return said


def test_an_uploader_is_deleted_in_the_midst_of_everything(
    tmp_path: Path, world_once: Path, record: Callable[..., None]
) -> None:
    site = make_site(tmp_path / "site")
    copy_lake(world_once, site.root)
    for day in DAYS[:2]:
        site.steps.run("publish", judged(site.steps.run, str(day)))
    run_id = judged(site.steps.run, str(DAYS[2]))
    rng = np.random.default_rng(5)
    ended: Counter[str] = Counter()
    switches = 0
    with Reader(site.root) as reader:
        for uploader in UPLOADERS:
            request_deletion(site.lake, "uploader", uploader)
            steps = [("dataset", str(DAYS[2])), ("publish", run_id), ("teacher", run_id)]
            steps += [(name,) for name in ("retention", "compaction", *["apply_deletions"] * 2)]
            rng.shuffle(steps)
            running = {}
            for number, step in enumerate(steps):
                running[f"{number} {step[0]}"] = site.steps.start(*step)
                time.sleep(rng.uniform(0, 0.4))
            somebody = site.steps.start_call(back_and_forth)
            for name, one in running.items():
                outcome = one.wait()
                assert not outcome.error or outcome.error in MAY_SAY, (name, outcome)
                ended[name.split()[1]] += 1
            outcome = somebody.wait()
            assert not outcome.error, outcome
            assert set(outcome.result) <= {"done", *MAY_SAY}
            switches += outcome.result["done"]
            current = read_current(site.store)
            assert current is not None
            verify_folder(site.store.fetch(f"releases/{current.release_id}"))
    assert reader.failures == []
    upkeep_later(site)
    for table in TABLES:
        site.lake.remove_old_versions(table, 0)
    for uploader in UPLOADERS:
        assert find_traces(site.lake, site.store, uploader) == []
    assert leftovers(site.root) == []
    steps_said = ", ".join(f"{name} {count}" for name, count in sorted(ended.items()))
    record(
        "an uploader deleted in the midst of everything",
        f"three uploaders, each while these ran at once: {steps_said}, rollbacks and promotions "
        f"{switches}; the current release opened {reader.opened} times meanwhile",
        ended.total() + switches,
        "nothing: every reader had a whole release, and after the next upkeep no file held a trace",
    )
