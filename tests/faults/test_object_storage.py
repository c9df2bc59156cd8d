"""Object storage that fails, throttles, hangs or denies access loses no data."""

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
from tests.faults.fault_nights import run_to_gate
from tests.faults.fault_report import format_counts
from tests.faults.fault_sites import DAYS, Site, fill_world, make_site
from tests.faults.faulty_s3 import BUCKET, REGION, FaultyS3, faulty_s3

pytest.importorskip("boto3")
pytest.importorskip("moto.server")
pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

# As in Airflow: one try and three retries.
TRIES = 4
# A step must fail within this time if storage does not answer.
LONGEST_WAIT_SECONDS = 90
# Fault -> description, and the error that steps raise.
FAULTS = {
    "broken": ("answers 500", "LakeUnavailableError"),
    "throttled": ("answers 503 SlowDown", "LakeUnavailableError"),
    "hangs": ("does not answer", "LakeUnavailableError"),
    "denied": ("answers 403", "LakeAccessError"),
}


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with faulty_s3() as server:
        yield server


@pytest.fixture
def site(tmp_path: Path, s3: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Return a site whose lake is in the bucket, with three days of features."""
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


def release_hashes(store: Store) -> dict[str, str]:
    """Return the sha256 of each table of the current release."""
    current = read_current(store)
    assert current is not None
    folder = store.fetch(f"releases/{current.release_id}")
    sha256 = json.loads((folder / "folder.json").read_text())["sha256"]
    return {name: digest for name, digest in sha256.items() if name.endswith(".parquet")}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, world_once: Path) -> dict[str, str]:
    """Return the hashes of a release that an undisturbed night makes on a local disk."""
    reference = make_site(tmp_path_factory.mktemp("reference"))
    copy_lake(world_once, reference.root)
    reference.steps.run("publish", run_to_gate(reference.steps.run, str(DAYS[0])))
    return release_hashes(reference.store)


def test_storage_that_sometimes_fails_gives_the_same_release(
    site: Site, s3: FaultyS3, expected: dict[str, str], record: Callable[..., None]
) -> None:
    retried: Counter[str] = Counter()

    def run_with_retries(step: str, *arguments: Any) -> Any:
        for _ in range(TRIES):
            outcome = site.steps.start(step, *arguments).wait()
            if not outcome.error:
                return outcome.result
            assert outcome.error == "LakeUnavailableError", outcome
            retried[step] += 1
        raise AssertionError(f"{step}: every retry failed")

    s3.fail("broken", every=6)
    run_id = run_to_gate(run_with_retries, str(DAYS[0]))
    s3.fail("throttled", every=6)
    run_with_retries("publish", run_id)
    s3.fail("")
    assert release_hashes(site.store) == expected
    assert s3.injected > 30
    record(
        "object storage that sometimes fails or throttles",
        "every sixth request of a retraining answered 500, of its publishing 503 SlowDown",
        s3.injected,
        f"no data lost: {retried.total()} task retries; the release equals one made on a local "
        "disk",
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_steps_fail_while_storage_fails_and_succeed_afterwards(
    site: Site,
    s3: FaultyS3,
    expected: dict[str, str],
    record: Callable[..., None],
    fault: str,
) -> None:
    """The fault hits each step at its start and at a random point; then the step is re-run."""
    description, error = FAULTS[fault]
    rng = np.random.default_rng(13)
    refused: Counter[str] = Counter()
    longest = 0.0

    def run_with_faults(step: str, *arguments: Any) -> Any:
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

    run_id = run_to_gate(run_with_faults, str(DAYS[0]))
    run_with_faults("publish", run_id)
    assert release_hashes(site.store) == expected
    assert refused.total() >= 8
    assert longest < LONGEST_WAIT_SECONDS
    current = read_current(site.store)
    assert current is not None
    folder = site.store.fetch(f"releases/{current.release_id}")
    s3.fail(fault)
    assert Release.open(folder).video_ids
    record(
        f"object storage that {description}",
        f"every request, from the start of a step or from a random point: {format_counts(refused)}",
        refused.total(),
        f"no data lost: {error} after at most {longest:.0f} s; after a re-run the release equals "
        "one made on a local disk; a fetched release stayed readable",
    )
