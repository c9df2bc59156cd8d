"""Retention removes what has expired, and nothing that a step may be using."""

from __future__ import annotations

import datetime as dt
import os
import time
from pathlib import Path

import pytest

from pipeline.context import Context
from pipeline.lake.schemas import TABLES
from pipeline.lake.table_sizes import sizes
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings
from pipeline.settings.sections import LakeSettings, ReleaseSettings
from pipeline.storage.folder import UNFINISHED_PREFIX
from pipeline.storage.store import Store
from pipeline.upkeep import compaction, retention

DAY = dt.date(2026, 3, 1)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        lake=LakeSettings(root=str(tmp_path / "lake"), keep_versions_days=0),
        release=ReleaseSettings(keep=2),
    )


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake(settings.lake)


@pytest.fixture
def store(settings: Settings) -> Store:
    return Store(settings.lake)


def write_plan(lake: Lake, plan: str) -> None:
    row = {
        "plan": plan,
        "shard": 0,
        "job": "video",
        "content_hash": "0" * 64,
        "dt": DAY,
        "media_path": "a.mp4",
        "duration": 1.0,
        "cost": 1.0,
    }
    lake.replace("shards", TABLES["shards"].frame([row]), {"plan": plan})


def write_preferences(lake: Lake, as_of: dt.date) -> None:
    row = {
        "uploader_id": "u",
        "as_of": as_of,
        "groups": "pop,other",
        "counts": [1, 0],
        "preference": [0.75, 0.25],
    }
    lake.replace("uploader_genres", TABLES["uploader_genres"].frame([row]), {"as_of": as_of})


def test_expired_plans_are_removed(
    settings: Settings, lake: Lake, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plan(lake, "a")
    assert retention.run(Context(settings)).plans == 0
    assert lake.read("shards")["plan"].to_list() == ["a"]
    monkeypatch.setattr(retention, "PLAN_DAYS", -1)
    assert retention.run(Context(settings)).plans == 1
    assert lake.read("shards").is_empty()


def test_preferences_older_than_reports_compare_are_removed(
    settings: Settings, lake: Lake, store: Store
) -> None:
    kept = DAY - dt.timedelta(days=retention.PREFERENCE_DAYS)
    for day in (DAY, kept, kept - dt.timedelta(days=1)):
        write_preferences(lake, day)
    assert retention.run(Context(settings)).preferences == 1
    assert lake.read("uploader_genres")["as_of"].sort().to_list() == [kept, DAY]


def test_expired_runs_are_removed_with_their_reports_unless_their_release_is_kept(
    settings: Settings, lake: Lake, store: Store
) -> None:
    runs = [f"2026-03-0{day}-abc" for day in range(1, 6)]
    for run in runs:
        for folder in (f"runs/{run}/dataset", f"runs/{run}/student", f"reports/{run}"):
            with store.writing(folder) as aside:
                (aside / "file").write_text(run)
    with store.writing(f"releases/{runs[0]}.1") as aside:
        (aside / "file").write_text("an old run, still served")
    assert retention.run(Context(settings)).runs == (), "a step may be working on them"
    for path in sorted(Path(settings.lake.root, "runs").rglob("*"), reverse=True):
        os.utime(path, (1, 1))
    said = retention.run(Context(settings), dry_run=True)
    assert store.children("runs") == runs
    summary = retention.run(Context(settings))
    assert summary.runs == said.runs == tuple(runs[1:3])
    assert store.children("runs") == [runs[0], *runs[3:]]
    assert store.children("reports") == [runs[0], *runs[3:]]


def test_old_leftovers_of_killed_writers_are_removed(
    settings: Settings, lake: Lake, store: Store
) -> None:
    runs = Path(settings.lake.root) / "runs"
    for name, age in (("old", 2 * retention.LEFTOVER_SECONDS), ("young", 0)):
        folder = runs / f"{UNFINISHED_PREFIX}{name}"
        folder.mkdir(parents=True)
        os.utime(folder, (time.time() - age,) * 2)
    summary = retention.run(Context(settings))
    assert summary.leftovers == (f"runs/{UNFINISHED_PREFIX}old",)
    assert [path.name for path in runs.iterdir()] == [f"{UNFINISHED_PREFIX}young"]


def test_upkeep_of_an_empty_lake_does_nothing(settings: Settings, lake: Lake, store: Store) -> None:
    assert retention.run(Context(settings)) == retention.RetentionSummary((), (), (), 0, 0)
    assert compaction.run(Context(settings)) == {}
    assert sizes(lake) == {}
