"""A small rendered world gives the same release with its days in any order, without Airflow."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
import pytest

from pipeline import steps
from pipeline.context import Context
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.releases.current import read_current
from pipeline.releases.serving import Release
from pipeline.settings.load import load_settings
from pipeline.storage.folder import sha256_of
from pipeline.storage.store import Store
from simulation.landing import deliver_day
from simulation.plan import SMALL_WORLD
from simulation.render import RenderedWorld, render_world
from simulation.truth import load_truth

SIZES = SMALL_WORLD.model_copy(
    update={"n_videos": 36, "n_music": 12, "n_uploaders": 4, "n_pgc": 3, "segments_per_pgc": 2}
)
# The only columns that may differ between two runs.
TIMES = {"ingested_at", "finished_at"}
# Plans and speeds differ between runs.
WORK = {"shards", "extractions"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> RenderedWorld:
    return render_world(tmp_path_factory.mktemp("world") / "days", seed=5, sizes=SIZES)


def use(lake: Path, landing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBCM_LAKE__ROOT", str(lake))
    monkeypatch.setenv("DEBCM_LANDING__ROOT", str(landing))
    monkeypatch.setenv("DEBCM_LANDING__REJECT_SHARE", "0.5")
    monkeypatch.setenv("DEBCM_MODEL__EPOCHS", "5")
    monkeypatch.setenv("DEBCM_MODEL__TEACHER_EPOCHS", "5")


def extract_day(day: dt.date) -> int:
    """Ingest, extract and check a day; return the number of clips extracted."""
    steps.ingest(day.isoformat())
    shards = steps.plan([day.isoformat()])
    extracted = [steps.extract(shard["plan"], shard["shard"])["extracted"] for shard in shards]
    steps.check(day.isoformat())
    return sum(extracted)


def train(as_of: dt.date) -> str:
    """Retrain, and publish the run even if the gate would refuse it; return its run id."""
    from pipeline.training import gate
    from pipeline.training.gate import ForceRequest

    steps.confounders(as_of.isoformat())
    run_id = str(steps.dataset(as_of.isoformat())["run_id"])
    for step in (steps.teacher, steps.student, steps.evaluate):
        step(run_id)
    settings = load_settings()
    force = ForceRequest(by="the test", reason="the world is too small for the gate")
    gate.decide(Context(settings), run_id, force)
    steps.publish(run_id)
    return run_id


def rows(lake: Lake) -> dict[str, pl.DataFrame]:
    return {
        name: frame.drop(TIMES & set(frame.columns)).sort(*TABLES[name].key)
        for name in TABLES
        if name not in WORK
        for frame in [lake.read(name)]
    }


def test_days_in_any_order_end_in_the_same_rows_and_the_same_release(
    world: RenderedWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = load_truth(world.truth)[0]
    landing = tmp_path / "landing"
    for day in truth.days:
        deliver_day(world.folder, landing, day)
    lakes, releases = [], []
    for name, order in (("nights", truth.days), ("backwards", truth.days[::-1])):
        use(tmp_path / name, landing, monkeypatch)
        for day in order:
            assert extract_day(day) > 0
        for day in order:
            assert extract_day(day) == 0
        train(truth.days[-1])
        lakes.append(Lake(load_settings().lake))
        releases.append(Store(load_settings().lake))

    nights, backwards = (rows(lake) for lake in lakes)
    for table in nights:
        # Content that two days share is extracted by the day that runs first, with the same result.
        drop = "dt" if table.endswith(("_features", "_frames")) else []
        assert nights[table].drop(drop).equals(backwards[table].drop(drop)), table
    found = {
        (row["dt"], row["kind"], row["id"]): row["reason"]
        for row in nights["quarantine"].iter_rows(named=True)
    }
    assert found == {(odd.day, odd.kind, odd.id): odd.reason for odd in truth.rejects}

    current = [read_current(store) for store in releases]
    assert current[0] is not None
    assert current[1] is not None
    assert current[0].release_id == current[1].release_id
    folders = [store.fetch(f"releases/{current[0].release_id}") for store in releases]
    for path in sorted(p for p in folders[0].rglob("*") if p.is_file()):
        other = folders[1] / path.relative_to(folders[0])
        assert sha256_of(path) == sha256_of(other), path.name

    release = Release.open(folders[0])
    last = truth.videos[-1]
    hits = release.recommend_known(last.video_id, top=5)
    assert len({hit.music_id for hit in hits}) == 5
