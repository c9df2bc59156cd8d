import datetime as dt
import os
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from deltalake.table import TableOptimizer

from pipeline import upkeep
from pipeline.lake import Lake
from pipeline.schemas import TABLES
from pipeline.settings import LakeSettings, ReleaseSettings, Settings
from pipeline.storage.folder import ASIDE
from pipeline.storage.store import Store

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


def add_video_features(lake: Lake, content_hash: str) -> None:
    row = {
        "content_hash": content_hash,
        "segment": -1,
        "extractor": "test@1",
        "embedding": [0.0],
        "frames": 1,
        "decoder": "pyav",
        "dt": DAY,
    }
    lake.add("visual_features", TABLES["visual_features"].frame([row]))


def test_a_plan_of_today_stays_and_an_old_one_goes(
    settings: Settings, lake: Lake, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plan(lake, "a")
    assert upkeep.retention(settings, lake, store).plans == 0
    assert lake.read("shards")["plan"].to_list() == ["a"]
    monkeypatch.setattr(upkeep, "PLAN_DAYS", -1)
    assert upkeep.retention(settings, lake, store).plans == 1
    assert lake.read("shards").is_empty()


def test_preferences_that_no_report_compares_with_go(
    settings: Settings, lake: Lake, store: Store
) -> None:
    kept = DAY - dt.timedelta(days=upkeep.PREFERENCE_DAYS)
    for day in (DAY, kept, kept - dt.timedelta(days=1)):
        write_preferences(lake, day)
    assert upkeep.retention(settings, lake, store).preferences == 1
    assert lake.read("uploader_genres")["as_of"].sort().to_list() == [kept, DAY]


def test_old_runs_go_with_their_reports_unless_their_release_is_kept(
    settings: Settings, lake: Lake, store: Store
) -> None:
    runs = [f"2026-03-0{day}-abc" for day in range(1, 6)]
    for run in runs:
        for folder in (f"runs/{run}/dataset", f"runs/{run}/student", f"reports/{run}"):
            with store.writing(folder) as aside:
                (aside / "file").write_text(run)
    with store.writing(f"releases/{runs[0]}.1") as aside:
        (aside / "file").write_text("an old run, still served")
    assert upkeep.retention(settings, lake, store).runs == (), "a step may be working on them"
    for path in sorted(Path(settings.lake.root, "runs").rglob("*"), reverse=True):
        os.utime(path, (1, 1))
    said = upkeep.retention(settings, lake, store, dry_run=True)
    assert store.children("runs") == runs
    summary = upkeep.retention(settings, lake, store)
    assert summary.runs == said.runs == tuple(runs[1:3])
    assert store.children("runs") == [runs[0], *runs[3:]]
    assert store.children("reports") == [runs[0], *runs[3:]]


def test_folders_that_killed_writers_left_go_and_young_ones_stay(
    settings: Settings, lake: Lake, store: Store
) -> None:
    runs = Path(settings.lake.root) / "runs"
    for name, age in (("old", 2 * upkeep.LEFTOVER_SECONDS), ("young", 0)):
        folder = runs / f"{ASIDE}{name}"
        folder.mkdir(parents=True)
        os.utime(folder, (time.time() - age,) * 2)
    summary = upkeep.retention(settings, lake, store)
    assert summary.leftovers == (f"runs/{ASIDE}old",)
    assert [path.name for path in runs.iterdir()] == [f"{ASIDE}young"]


def test_compaction_changes_files_and_no_row(settings: Settings, lake: Lake) -> None:
    for number in range(5):
        add_video_features(lake, f"{number:064d}")
    before = lake.read("visual_features").sort("content_hash")
    assert upkeep.sizes(lake)["visual_features"]["files"] == 5
    done = upkeep.compaction(settings, lake)["visual_features"]
    assert (done["compacted"], done["into"]) == (5, 1)
    assert done["forgotten"] >= 5
    after = upkeep.sizes(lake)["visual_features"]
    assert (after["files"], after["rows"]) == (1, 5)
    assert lake.read("visual_features").sort("content_hash").equals(before)
    parts = Path(lake.uri("visual_features")).rglob("*.parquet")
    data = [path for path in parts if "_delta_log" not in path.parts]
    assert sum(pl.read_parquet(path).height for path in data) == 5


def test_what_is_compact_is_left_as_it_is(lake: Lake) -> None:
    add_video_features(lake, "0" * 64)
    version = lake.version("visual_features")
    assert lake.compact("visual_features") == (0, 0)
    assert lake.version("visual_features") == version


@pytest.mark.parametrize(
    ("where", "step"), [(Lake, "_marked"), (TableOptimizer, "compact")], ids=["opens", "commits"]
)
def test_a_compaction_is_left_to_one_that_began_before_it(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, where: type, step: str
) -> None:
    for number in range(5):
        add_video_features(lake, f"{number:064d}")
    later: list[DeltaTable] = []
    do = getattr(where, step)

    def overtaken(*arguments: Any, **named: Any) -> Any:
        monkeypatch.undo()
        mark = {"debcm.compaction": "another's"}
        DeltaTable(lake.uri("visual_features")).alter.set_table_properties(
            mark, raise_if_not_exists=False
        )
        later.append(DeltaTable(lake.uri("visual_features")))
        return do(*arguments, **named)

    monkeypatch.setattr(where, step, overtaken)
    assert lake.compact("visual_features") == (0, 0)
    assert later[0].optimize.compact()["numFilesRemoved"] == 5
    assert lake.read("visual_features").height == 5


def test_of_two_compactions_of_the_same_files_the_later_commits(
    settings: Settings, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have opened the table; the first tries to commit before the other does, and after it."""
    for number in range(5):
        add_video_features(lake, f"{number:064d}")
    compact, begun = TableOptimizer.compact, []

    def crossing(self: TableOptimizer, **arguments: Any) -> dict[str, Any]:
        begun.append(self)
        if len(begun) == 1:
            assert Lake(settings.lake).compact("visual_features") == (5, 1)
        else:
            with pytest.raises(CommitFailedError):
                compact(begun[0], **arguments)
        return compact(self, **arguments)

    monkeypatch.setattr(TableOptimizer, "compact", crossing)
    assert lake.compact("visual_features") == (0, 0)
    assert len(begun) == 2
    assert lake.read("visual_features")["content_hash"].sort().to_list() == [
        f"{number:064d}" for number in range(5)
    ]


def test_a_compaction_that_meets_a_deletion_begins_again(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        add_video_features(lake, f"{number:064d}")
    compact = TableOptimizer.compact

    def meeting(self: TableOptimizer, **arguments: Any) -> dict[str, Any]:
        monkeypatch.undo()
        assert lake.delete("visual_features", f"content_hash = '{'0' * 64}'") == 1
        return compact(self, **arguments)

    monkeypatch.setattr(TableOptimizer, "compact", meeting)
    assert lake.compact("visual_features") == (4, 1)
    assert lake.read("visual_features").height == 4


def test_upkeep_of_an_empty_lake_does_nothing(settings: Settings, lake: Lake, store: Store) -> None:
    assert upkeep.retention(settings, lake, store) == upkeep.RetentionSummary((), (), (), 0, 0)
    assert upkeep.compaction(settings, lake) == {}
    assert upkeep.sizes(lake) == {}
