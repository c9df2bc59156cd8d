"""Compaction merges files without changing rows, also beside other writers."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from deltalake.table import TableOptimizer

from pipeline.context import Context
from pipeline.lake.schemas import TABLES
from pipeline.lake.table_sizes import sizes
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings
from pipeline.settings.sections import LakeSettings, ReleaseSettings
from pipeline.storage.store import Store
from pipeline.upkeep import compaction

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


@pytest.mark.parametrize(("days", "warned"), [(0, True), (0.5, True), (1, False)])
def test_a_short_retention_of_versions_gives_a_warning(
    settings: Settings, caplog: pytest.LogCaptureFixture, days: float, warned: bool
) -> None:
    changed = settings.lake.model_copy(update={"keep_versions_days": days})
    compaction.run(Context(settings.model_copy(update={"lake": changed})))
    assert ("keep_versions_days" in caplog.text) == warned


def test_compaction_merges_files_and_changes_no_row(settings: Settings, lake: Lake) -> None:
    for number in range(5):
        add_video_features(lake, f"{number:064d}")
    before = lake.read("visual_features").sort("content_hash")
    assert sizes(lake)["visual_features"]["files"] == 5
    done = compaction.run(Context(settings))["visual_features"]
    assert (done["compacted"], done["into"]) == (5, 1)
    assert done["forgotten"] >= 5
    after = sizes(lake)["visual_features"]
    assert (after["files"], after["rows"]) == (1, 5)
    assert lake.read("visual_features").sort("content_hash").equals(before)
    parts = Path(lake.uri("visual_features")).rglob("*.parquet")
    data = [path for path in parts if "_delta_log" not in path.parts]
    assert sum(pl.read_parquet(path).height for path in data) == 5


def test_a_compact_table_is_not_rewritten(lake: Lake) -> None:
    add_video_features(lake, "0" * 64)
    version = lake.version("visual_features")
    assert lake.compact("visual_features") == (0, 0)
    assert lake.version("visual_features") == version


@pytest.mark.parametrize(
    ("where", "step"), [(Lake, "_if_marked"), (TableOptimizer, "compact")], ids=["opens", "commits"]
)
def test_a_compaction_yields_to_one_that_started_earlier(
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


def test_of_two_concurrent_compactions_only_the_later_commits(
    settings: Settings, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have opened the table; the first one tries to commit after the other."""
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


def test_a_compaction_starts_again_after_a_concurrent_delete(
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
