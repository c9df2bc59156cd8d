"""A tiny landing folder of real files, lakes to read it into, and a lake with a trained run."""

from __future__ import annotations

import datetime as dt
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest

from models import Model
from pipeline.context import Context
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings
from pipeline.settings.sections import ExtractSettings, LakeSettings, LandingSettings
from pipeline.storage.store import Store
from pipeline.training import dataset
from simulation.world import World
from tests.helpers import deliveries
from tests.helpers.deliveries import Row
from tests.helpers.trained_lake import DAY as TRAINED_DAY
from tests.helpers.trained_lake import TrainedLake, copy_of, publish_run, train_lake

DAY = dt.date(2026, 3, 1)


@dataclass
class Platform:
    """Delivers landing days, as the platform does."""

    root: Path
    media: Path

    video = staticmethod(deliveries.video)
    track = staticmethod(deliveries.track)
    write = staticmethod(deliveries.write_manifest)

    def deliver(self, day: dt.date, videos: list[Row], music: list[Row]) -> Path:
        """Write a complete day; delivering it again replaces its manifests."""
        return deliveries.write_day(self.root, day, videos, music, self.media)


@pytest.fixture(scope="session")
def tiny_media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos and tracks of about a second, and a music video of seven seconds."""
    return deliveries.small_media(tmp_path_factory.mktemp("media"))


@pytest.fixture
def platform(tmp_path: Path, tiny_media: Path) -> Platform:
    return Platform(tmp_path / "landing", tiny_media)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        lake=LakeSettings(root=str(tmp_path / "lake")),
        landing=LandingSettings(root=tmp_path / "landing", reject_share=1.0),
        extract=ExtractSettings(workers=1),
    )


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake(settings.lake)


@pytest.fixture
def store(settings: Settings) -> Store:
    return Store(settings.lake)


@pytest.fixture
def account(lake: Lake) -> Callable[[dt.date], None]:
    """Mark a day as checked, as if every clip had features."""

    def write(day: dt.date) -> None:
        row = {
            "dt": day,
            "visual_extractor": "e@1",
            "audio_extractor": "e@1",
            "clips": 1,
            "rejected": 0,
            "finished_at": dt.datetime.now(dt.UTC),
        }
        lake.replace("feature_days", TABLES["feature_days"].frame([row]), {"dt": day})

    return write


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Store]:
    """The store of a lake in an empty bucket; its copies are below `tmp_path / "cache"`."""
    boto3 = pytest.importorskip("boto3")
    moto = pytest.importorskip("moto.server")
    _answer_one_by_one(moto.DomainDispatcherApplication, monkeypatch)
    server = moto.ThreadedMotoServer("127.0.0.1", port=0)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("DEBCM_CACHE", str(tmp_path / "cache"))
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket="lake")
    options = {
        "aws_endpoint_url": endpoint,
        "aws_region": "us-east-1",
        "aws_allow_http": "true",
    }
    yield Store(LakeSettings(root="s3://lake/debcm", storage_options=options))
    reset = urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset).close()
    server.stop()


def _answer_one_by_one(application: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Serialise requests: S3 compares and writes atomically, but moto's threads do not."""
    answer, one = application.__call__, Lock()

    def locked(self: object, *request: object) -> object:
        with one:
            return answer(self, *request)

    monkeypatch.setattr(application, "__call__", locked)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, World]:
    root = tmp_path_factory.mktemp("toy") / "lake"
    run_id, world = train_lake(root)
    return root, run_id, world


@pytest.fixture
def toy(trained: tuple[Path, str, World], tmp_path: Path) -> TrainedLake:
    return copy_of(*trained, tmp_path / "lake")


@pytest.fixture(scope="session")
def published_once(
    trained: tuple[Path, str, World], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    root = tmp_path_factory.mktemp("published") / "lake"
    toy = copy_of(*trained, root)
    publish_run(toy, toy.run_id)
    return root


@pytest.fixture
def published(
    published_once: Path, trained: tuple[Path, str, World], tmp_path: Path
) -> TrainedLake:
    return copy_of(published_once, *trained[1:], tmp_path / "published")


@pytest.fixture
def next_run() -> Callable[..., str]:
    """Another run over the same rows, with a student changed by the caller."""

    def make(
        toy: TrainedLake, change: Callable[[Model], Model | None] | None = None, days: int = 1
    ) -> str:
        made = dataset.build(Context(toy.settings), TRAINED_DAY + dt.timedelta(days=days))
        student = Model.load(toy.store.fetch(f"runs/{toy.run_id}/student"))
        changed = change(student) if change else None
        with toy.store.writing(f"runs/{made.run_id}/student") as folder:
            (changed or student).save(folder)
        return made.run_id

    return make


@pytest.fixture
def publishing() -> Callable[[TrainedLake, str], None]:
    return publish_run


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    if binary is None:
        pytest.skip("no chromium on this machine (Debian: apt install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        yield browser
        browser.close()
