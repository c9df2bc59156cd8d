"""A lake in object storage that fails, throttles, hangs or refuses."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_nights import judged
from fault_sites import DAYS, Site, fill_world, make_site
from faulty_s3 import BUCKET, REGION, FaultyS3, faulty_s3

from pipeline.current import read_current
from pipeline.serving import Release

pytest.importorskip("boto3")
pytest.importorskip("moto.server")
pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

# As Airflow does: a task and three retries.
TRIES = 4
# The longest that a request may hang before a step gives up on it, all retries included.
PATIENCE_SECONDS = 90
OPTIONS = """
root = "s3://{bucket}/debcm"
[lake.storage_options]
aws_endpoint_url = "{endpoint}"
aws_region = "{region}"
aws_allow_http = "true"
timeout = "2s"
"""


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
    with faulty_s3() as server:
        yield server


@pytest.fixture
def site(tmp_path: Path, s3: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A lake in the bucket with three nights of features; its cache is its own."""
    monkeypatch.setenv("DEBCM_CACHE", str(tmp_path / "cache"))
    site = make_site(tmp_path / "site")
    options = OPTIONS.format(bucket=BUCKET, endpoint=s3.endpoint, region=REGION)
    text = (site.folder / "debcm.toml").read_text().replace('root = "lake"\n', "")
    (site.folder / "debcm.toml").write_text(
        text.replace("[extract]", f"{options}[extract]").replace("[lake]\n", "[lake]" + "\n")
    )
    fill_world(site)
    return site
