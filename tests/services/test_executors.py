"""The same nights give the same tables with every executor and storage.

`debcm run` without Airflow is compared with LocalExecutor on PostgreSQL, and with two Celery
workers on PostgreSQL and Redis with a lake on S3. The first Airflow sends metrics to a collector.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.orchestration.local_airflow import environment, free_port
from pipeline.releases.current import read_current
from pipeline.reporting.metrics import METRICS
from pipeline.settings.sections import LakeSettings
from pipeline.storage.folder import sha256_of
from pipeline.storage.store import Store
from tests.helpers.deliveries import write_manifest
from tests.helpers.real_airflow import (
    DAYS,
    Watched,
    debcm,
    small_settings,
    write_clip,
    write_track,
)
from tests.services import servers
from tests.services.collector import Collector, collecting

pytestmark = [pytest.mark.services, pytest.mark.timeout(1800)]

GENRES = ["rock", "techno", "classical", "folk"]
TINTS = [(1.0, 0.1, 0.1), (0.1, 1.0, 0.1), (0.1, 0.1, 1.0), (1.0, 1.0, 0.1)]
PICKS = 16
# Each video has the colour of its track, so a model that learns anything passes the gate.
LEARNABLE = {
    "DEBCM_GATE__RECALL_K": "1",
    "DEBCM_GATE__MAX_CALIBRATION": "5",
    "DEBCM_SPLIT__TEST_SHARE": "0.3",
    "DEBCM_MODEL__EPOCHS": "30",
    "DEBCM_MODEL__TEACHER_EPOCHS": "30",
    "DEBCM_MODEL__DIM": "16",
    "DEBCM_MODEL__HIDDEN": "32",
}
# Columns that differ between runs: times, and table versions.
RUN_COLUMNS = {"ingested_at", "finished_at", "inputs"}
# Plans and speeds differ between runs; no deletions were requested.
COMPARED = [
    name for name in TABLES if name not in {"shards", "extractions", "deletions", "erasures"}
]


@dataclass(frozen=True)
class Outcome:
    """What one way to run the nights wrote.

    Attributes:
        tables: rows by table name, without the columns that differ between runs.
        release: id of the current release.
        arrays: sha256 of its embeddings, towers and index by file name.
    """

    tables: dict[str, pl.DataFrame]
    release: str
    arrays: dict[str, str]


def read(settings: LakeSettings) -> Outcome:
    lake, store = Lake(settings), Store(settings)
    current = read_current(store)
    assert current is not None
    folder = store.fetch(f"releases/{current.release_id}")
    arrays = {
        path.name: sha256_of(path)
        for path in sorted(folder.iterdir())
        if path.suffix in {".parquet", ".safetensors", ".onnx", ".faiss"}
    }
    tables = {
        name: lake.read(name).sort(TABLES[name].key).drop(RUN_COLUMNS, strict=False)
        for name in COMPARED
    }
    return Outcome(tables, current.release_id, arrays)


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("services") / "landing"
    for day in DAYS:
        media = root / f"dt={day}" / "media"
        media.mkdir(parents=True)
        videos = [
            {
                "video_id": f"v{day.day}{i:02d}",
                "uploader_id": f"u{i % 5}",
                "music_id": f"m{i % 4}",
                "source": "ugc",
                "uploaded_at": f"{day}T{10 + i // 4}:{i % 4}0:00Z",
                "media_path": f"media/v{i:02d}.mp4",
            }
            for i in range(PICKS)
        ]
        for i in range(PICKS):
            write_clip(media / f"v{i:02d}.mp4", 100 * day.day + i, seconds=1, tint=TINTS[i % 4])
        tracks = [
            {
                "music_id": f"m{i}",
                "genre": genre,
                "title": f"title {i}",
                "artist": "somebody",
                "media_path": f"media/m{i}.ogg",
            }
            for i, genre in enumerate(GENRES)
        ]
        for i in range(len(GENRES)):
            write_track(media / f"m{i}.ogg", 220.0 * (i + 1))
            write_clip(media / f"p{i}.mp4", i, seconds=6, tone=220.0 * (i + 1), tint=TINTS[i])
            professional = {"video_id": f"p{day.day}{i}", "source": "pgc", "uploader_id": ""}
            videos.append(
                videos[0] | professional | {"music_id": "", "media_path": f"media/p{i}.mp4"}
            )
        # An invalid file, which is quarantined.
        (media / "broken.mp4").write_text("not a video")
        videos.append(videos[0] | {"video_id": f"b{day.day}", "media_path": "media/broken.mp4"})
        write_manifest(media.parent / "music.csv", list(tracks[0]), tracks)
        write_manifest(media.parent / "videos.csv", list(videos[0]), videos)
        (media.parent / "_SUCCESS").touch()
    return root


@pytest.fixture(scope="module")
def embedded(landing: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Run the nights with `debcm run`, day after day, without Airflow."""
    lake = tmp_path_factory.mktemp("embedded") / "lake"
    variables = small_settings(landing, lake) | LEARNABLE
    debcm(["run"], variables)
    return read(LakeSettings(root=str(lake)))


def run_nights(seen: Watched) -> None:
    """Trigger three days at once; their retraining follows."""
    seen.unpause("media_features", "debcm_retrain")
    for day in DAYS:
        seen.airflow.trigger("media_features", partition_key=day.isoformat())


def assert_equal(found: Outcome, wanted: Outcome) -> None:
    assert wanted.tables["videos"].height == 3 * (PICKS + 4)
    # One invalid file per day, and the tracks that the second and third day deliver again.
    assert wanted.tables["quarantine"].height == 3 + 2 * len(GENRES)
    assert wanted.tables["runs"]["decision"].to_list() == ["publish"]
    for name in COMPARED:
        assert found.tables[name].equals(wanted.tables[name], null_equal=True), name
    assert found.release == wanted.release
    assert len(wanted.arrays) >= 5
    assert found.arrays == wanted.arrays


def assert_metrics_arrived(collector: Collector) -> None:
    """Check that all documented gauges arrived, no others, and with the values of the nights."""
    found = {
        name.removeprefix("airflow."): values
        for name, values in collector.gauges.items()
        if name.startswith("airflow.debcm.")
    }
    documented = [
        re.compile(re.escape(name).replace("<reason>", "[a-z_]+").replace("<contender>", "[a-z_]+"))
        for name in METRICS
    ]
    missing = [p.pattern for p in documented if not any(map(p.fullmatch, found))]
    unknown = [name for name in found if not any(p.fullmatch(name) for p in documented)]
    assert (missing, unknown) == ([], [])
    assert set(found["debcm.rows"]) == {PICKS + 2 * len(GENRES) + 1}
    assert set(found["debcm.rejects.unsupported_container"]) == {1}
    assert set(found["debcm.gate.published"]) == {1}
    assert all(0 < value <= 1 for value in found["debcm.recall.challenger"])


@pytest.fixture
def database() -> Iterator[dict[str, str]]:
    with servers.postgres() as url:
        yield {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url}


def test_local_executor_with_manual_approval_gives_the_same_tables(
    landing: Path, embedded: Outcome, database: dict[str, str], tmp_path: Path
) -> None:
    variables = small_settings(landing, tmp_path / "lake") | LEARNABLE | database
    variables["DEBCM_SCHEDULE__APPROVAL"] = "true"
    with collecting() as collector:
        variables |= {
            "AIRFLOW__METRICS__OTEL_ON": "True",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        }
        env = environment(home=tmp_path / "airflow", port=free_port()) | variables
        with Watched.start(env) as seen:
            run_nights(seen)
            approve(seen, tmp_path / "lake", embedded.release)
        assert_metrics_arrived(collector)
    assert_equal(read(LakeSettings(root=str(tmp_path / "lake"))), embedded)


def approve(seen: Watched, lake: Path, release: str) -> None:
    """Approve the release, as a person does in the UI; until then there is no current release."""
    asked = "/dags/debcm_retrain/dagRuns/~/hitlDetails?response_received=false"

    def questions() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = seen.airflow.call("GET", asked)["hitl_details"]
        return found

    def all_answered() -> bool:
        # A task that is answered before it is deferred is retried and asks again.
        for question in questions():
            run = question["task_instance"]["dag_run_id"]
            seen.airflow.call(
                "PATCH",
                f"/dags/debcm_retrain/dagRuns/{run}/taskInstances/approve/-1/hitlDetails",
                {"chosen_options": ["Approve"]},
            )
        return seen.ended("debcm_retrain", 3)

    seen.wait_until(lambda: bool(questions()), "the question whether to publish")
    (question,) = questions()
    assert release in question["subject"]
    assert read_current(Store(LakeSettings(root=str(lake)))) is None
    seen.wait_until(all_answered, "three retraining runs")
    assert seen.states("debcm_retrain", "publish").count("success") == 1


def test_celery_workers_with_the_lake_on_s3_give_the_same_tables(
    landing: Path,
    embedded: Outcome,
    database: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with servers.redis() as broker, servers.s3("lake") as endpoint:
        options = {
            "aws_endpoint_url": endpoint,
            "aws_region": "us-east-1",
            "aws_allow_http": "true",
        }
        variables = small_settings(landing, "s3://lake/debcm") | LEARNABLE | database
        variables |= {
            "DEBCM_LAKE__STORAGE_OPTIONS": json.dumps(options),
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CELERY__BROKER_URL": broker,
            "AIRFLOW__CELERY__RESULT_BACKEND": "db+"
            + database["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"],
        }
        env = environment(home=tmp_path / "airflow", port=free_port()) | variables
        workers = {
            f"worker-{i}": ["celery", "worker", "-H", f"worker-{i}@localhost", "-c", "2", "-s"]
            for i in (1, 2)
        }
        with Watched.start(env, workers) as seen:
            run_nights(seen)
            seen.wait_until(lambda: seen.ended("debcm_retrain", 3), "three retraining runs")
        assert_equal(read(LakeSettings(root="s3://lake/debcm", storage_options=options)), embedded)
    for name in workers:
        log = (tmp_path / "airflow" / "logs" / f"{name}.log").read_text()
        assert "succeeded in" in log, name
