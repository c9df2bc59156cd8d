"""A lake in object storage that fails, throttles, hangs or refuses."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.releases.current import read_current
from pipeline.releases.serving import Release
from pipeline.storage.store import Store
from tests.faults.fault_harness import copy_lake
from tests.faults.fault_nights import judged
from tests.faults.fault_report import listed
from tests.faults.fault_sites import DAYS, Site, fill_world, make_site
from tests.faults.faulty_s3 import BUCKET, REGION, FaultyS3, faulty_s3

pytest.importorskip("boto3")
pytest.importorskip("moto.server")
pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

# As Airflow does: a task and three retries.
TRIES = 4
# The longest that a step may take to say that nobody answers.
PATIENCE_SECONDS = 90
# What a fault does, and what it means.
FAULTS = {
    "broken": ("answers 500", "LakeUnavailableError"),
    "throttled": ("answers 503 SlowDown", "LakeUnavailableError"),
    "hangs": ("does not answer", "LakeUnavailableError"),
    "denied": ("answers 403", "DiskFullError"),
}


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with faulty_s3() as server:
        yield server


@pytest.fixture
def site(tmp_path: Path, s3: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A lake in the bucket with three nights of features."""
    cache = str(tmp_path / "cache")
    monkeypatch.setenv("DEBCM_CACHE", cache)
    options = {
        "aws_endpoint_url": s3.endpoint,
        "aws_region": REGION,
        "aws_allow_http": "true",
    }
    site = make_site(
        tmp_path / "site",
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test",
        AWS_MAX_ATTEMPTS="3",
        DEBCM_CACHE=cache,
        DEBCM_LAKE__ROOT=f"s3://{BUCKET}/debcm",
        DEBCM_LAKE__STORAGE_OPTIONS=json.dumps(options),
    )
    fill_world(site)
    return site


def hashes(store: Store) -> dict[str, str]:
    """What the current release says: sha256 of its tables."""
    current = read_current(store)
    assert current is not None
    folder = store.fetch(f"releases/{current.release_id}")
    listed = json.loads((folder / "folder.json").read_text())["sha256"]
    return {name: digest for name, digest in listed.items() if name.endswith(".parquet")}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, world_once: Path) -> dict[str, str]:
    """What an undisturbed night on a local disk releases."""
    calm = make_site(tmp_path_factory.mktemp("calm"))
    copy_lake(world_once, calm.root)
    calm.steps.run("publish", judged(calm.steps.run, str(DAYS[0])))
    return hashes(calm.store)


def test_storage_that_fails_now_and_then(
    site: Site, s3: FaultyS3, expected: dict[str, str], record: Callable[..., None]
) -> None:
    retried: Counter[str] = Counter()

    def patient(step: str, *arguments: Any) -> Any:
        for _ in range(TRIES):
            outcome = site.steps.start(step, *arguments).wait()
            if not outcome.error:
                return outcome.result
            assert outcome.error == "LakeUnavailableError", outcome
            retried[step] += 1
        raise AssertionError(f"{step}: every retry failed")

    s3.fail("broken", every=6)
    run_id = judged(patient, str(DAYS[0]))
    s3.fail("throttled", every=6)
    patient("publish", run_id)
    s3.fail("")
    assert hashes(site.store) == expected
    assert s3.injected > 30
    record(
        "object storage that fails or throttles now and then",
        "every sixth request of a retraining answered 500, of its publishing 503 SlowDown",
        s3.injected,
        f"nothing: {retried.total()} retries of tasks, the release equals one made on a disk",
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_storage_that_fails_for_good(
    site: Site,
    s3: FaultyS3,
    expected: dict[str, str],
    record: Callable[..., None],
    fault: str,
) -> None:
    """Each step meets the fault at its start and at a random point, then runs again."""
    does, error = FAULTS[fault]
    rng = np.random.default_rng(13)
    refused: Counter[str] = Counter()
    longest = 0.0

    def disturbed(step: str, *arguments: Any) -> Any:
        nonlocal longest
        for delay in (0.0, rng.uniform(0.1, 1.5)):
            running = site.steps.start(step, *arguments)
            running.process.join(delay)
            s3.fail(fault)
            started = time.monotonic()
            outcome = running.wait()
            s3.fail("")
            assert outcome.error in {"", error}, outcome
            if outcome.error:
                refused[step] += 1
                longest = max(longest, time.monotonic() - started)
        return site.steps.run(step, *arguments)

    run_id = judged(disturbed, str(DAYS[0]))
    disturbed("publish", run_id)
    assert hashes(site.store) == expected
    assert refused.total() >= 8
    assert longest < PATIENCE_SECONDS
    current = read_current(site.store)
    assert current is not None
    folder = site.store.fetch(f"releases/{current.release_id}")
    s3.fail(fault)
    assert Release.open(folder).video_ids
    record(
        f"object storage that {does}",
        f"every request, from the start of a step and from a random point: {listed(refused)}",
        refused.total(),
        f"nothing: {error} after at most {longest:.0f} s; run again, the release equals "
        "one made on a disk; a release that was fetched stays readable",
    )
