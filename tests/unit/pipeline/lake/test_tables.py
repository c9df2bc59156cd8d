"""Writes of tables are atomic, idempotent and safe with concurrent writers."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import write_deltalake

from pipeline.errors import LakeUnavailableError, ProvenanceError, SchemaError
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.settings.sections import LakeSettings
from pipeline.storage.store import Store

DAY = dt.date(2026, 3, 1)
OTHER_DAY = dt.date(2026, 3, 2)


def days(*rows: tuple[dt.date, str]) -> pl.DataFrame:
    now = dt.datetime(2026, 3, 3, tzinfo=dt.UTC)
    return TABLES["landing_days"].frame(
        [
            {
                "dt": day,
                "fingerprint": fingerprint,
                "rows": 1,
                "accepted": 1,
                "rejected": 0,
                "finished_at": now,
            }
            for day, fingerprint in rows
        ]
    )


def test_a_missing_table_has_no_rows(lake: Lake) -> None:
    assert lake.read("videos").is_empty()
    assert lake.version("videos") == -1


def test_replace_leaves_other_partitions_alone(lake: Lake) -> None:
    lake.replace("landing_days", days((DAY, "a")), {"dt": DAY})
    lake.replace("landing_days", days((OTHER_DAY, "b")), {"dt": OTHER_DAY})
    lake.replace("landing_days", days((DAY, "c")), {"dt": DAY})
    rows = lake.read("landing_days").sort("dt").select("dt", "fingerprint").rows()
    assert rows == [(DAY, "c"), (OTHER_DAY, "b")]


def test_replace_without_rows_empties_the_partition(lake: Lake) -> None:
    lake.replace("landing_days", days((DAY, "a")), {"dt": DAY})
    lake.replace("landing_days", TABLES["landing_days"].empty, {"dt": DAY})
    assert lake.read("landing_days").is_empty()


def test_add_keeps_an_existing_row(lake: Lake) -> None:
    assert lake.add("landing_days", days((DAY, "a"))) == 1
    assert lake.add("landing_days", days((DAY, "b"), (OTHER_DAY, "b"))) == 1
    assert sorted(lake.read("landing_days")["fingerprint"]) == ["a", "b"]


def test_upsert_replaces_an_existing_row(lake: Lake) -> None:
    lake.upsert("landing_days", days((DAY, "a")))
    lake.upsert("landing_days", days((DAY, "b")))
    assert lake.read("landing_days")["fingerprint"].to_list() == ["b"]


def test_a_query_over_two_tables_is_refused(lake: Lake) -> None:
    lake.replace("landing_days", days((DAY, "a")), {"dt": DAY})
    first, second = (lake.scan("landing_days", version=version) for version in (0, 1))
    with pytest.raises(ValueError, match="two tables"):
        lake.collect(first.join(second, on="dt"), "landing_days")


def test_a_commit_creates_no_new_lake_when_the_lake_disappears(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.replace("landing_days", days((DAY, "a")), {"dt": DAY})
    root, away = Path(lake.root), tmp_path / "away"

    def vanishing(*arguments: Any, **options: Any) -> None:
        root.rename(away)
        write_deltalake(*arguments, **options)

    monkeypatch.setattr("pipeline.lake.tables.write_deltalake", vanishing)
    with pytest.raises(LakeUnavailableError, match=r"replaced during a commit.*\.stray-"):
        lake.add("landing_days", days((OTHER_DAY, "b")))
    assert not root.exists()
    (stray,) = root.parent.glob(f"{root.name}.stray-*")
    assert list(stray.rglob("*.parquet"))
    away.rename(root)
    assert lake.read("landing_days")["fingerprint"].to_list() == ["a"]


def test_a_quote_in_a_partition_value_is_escaped(lake: Lake) -> None:
    row: dict[str, Any] = {
        "content_hash": "a",
        "segment": -1,
        "extractor": "it's' OR 'x'='x",
        "bands": 1,
        "frames": 1,
        "values": b"ab",
        "dt": DAY,
    }
    frame = TABLES["mel_frames"].frame([row])
    lake.add("mel_frames", frame)
    assert lake.add("mel_frames", frame) == 0
    assert lake.read("mel_frames").equals(frame)


def test_nothing_is_written_when_a_row_breaks_the_schema(lake: Lake) -> None:
    bad = days((DAY, "a")).with_columns(rows=pl.lit(-1, pl.Int64))
    with pytest.raises(SchemaError):
        lake.replace("landing_days", bad, {"dt": DAY})
    assert lake.version("landing_days") == -1


def test_an_old_version_can_be_read_until_it_is_removed(lake: Lake) -> None:
    lake.replace("landing_days", days((DAY, "a")), {"dt": DAY})
    before = lake.version("landing_days")
    lake.replace("landing_days", days((DAY, "b")), {"dt": DAY})
    old = lake.scan("landing_days", version=before).collect()
    assert old["fingerprint"].to_list() == ["a"]
    lake.remove_old_versions("landing_days", 0)
    with pytest.raises(ProvenanceError, match=f"no version {before} .*landing_days"):
        lake.scan("landing_days", version=before)


def test_a_damaged_file_is_named_and_not_read(lake: Lake, tmp_path: Path) -> None:
    lake.replace("landing_days", days((DAY, "a")), {"dt": DAY})
    (file,) = (tmp_path / "lake").rglob("*.parquet")
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ProvenanceError, match="landing_days"):
        lake.read("landing_days")


def test_a_lake_that_disappeared_is_not_an_empty_one(lake: Lake, tmp_path: Path) -> None:
    lake.replace("landing_days", days((DAY, "a")), {"dt": DAY})
    (tmp_path / "lake").rename(tmp_path / "unmounted")
    with pytest.raises(LakeUnavailableError, match=str(tmp_path / "lake")):
        lake.read("landing_days")
    (tmp_path / "unmounted").rename(tmp_path / "lake")
    assert len(lake.read("landing_days")) == 1


def test_a_disk_that_is_not_mounted_is_not_a_new_lake(
    lake: Lake, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "lake").mkdir()
    with pytest.raises(LakeUnavailableError, match="not mounted"):
        lake.read("landing_days")
    with pytest.raises(LakeUnavailableError, match="not mounted"):
        lake.replace("landing_days", days((DAY, "a")), {"dt": DAY})
    with pytest.raises(LakeUnavailableError, match="not mounted"), store.writing("runs/r/dataset"):
        pass
    assert not any((tmp_path / "lake").iterdir())
    (tmp_path / "lake" / "tables").mkdir()
    lake.replace("landing_days", days((DAY, "a")), {"dt": DAY})
    assert len(lake.read("landing_days")) == 1


def test_a_lake_is_created_only_in_an_existing_folder(tmp_path: Path) -> None:
    below = Lake(LakeSettings(root=str(tmp_path / "disk" / "lake")))
    with pytest.raises(LakeUnavailableError, match="disk"):
        below.replace("landing_days", days((DAY, "a")), {"dt": DAY})
    assert not any(tmp_path.iterdir())
    (tmp_path / "disk").mkdir()
    below.replace("landing_days", days((DAY, "a")), {"dt": DAY})
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["lake"]


def test_an_empty_log_entry_is_named(lake: Lake, tmp_path: Path) -> None:
    lake.replace("landing_days", days((DAY, "a")), {"dt": DAY})
    lake.replace("landing_days", days((DAY, "b")), {"dt": DAY})
    last = max((tmp_path / "lake").rglob("_delta_log/*.json"))
    last.write_bytes(b"")
    with pytest.raises(ProvenanceError, match=last.name):
        lake.read("landing_days")


def test_files_of_no_version_are_removed_when_they_are_old(lake: Lake, tmp_path: Path) -> None:
    lake.replace("landing_days", days((DAY, "a")), {"dt": DAY})
    (file,) = (tmp_path / "lake").rglob("*.parquet")
    young, old = file.with_name("part-0-young.parquet"), file.with_name("part-0-old.parquet")
    for path, age in ((young, 3600), (old, 90_000)):
        path.write_bytes(file.read_bytes())
        os.utime(path, (time.time() - age,) * 2)
    assert lake.remove_old_versions("landing_days", 0) == 1
    assert set(file.parent.iterdir()) == {file, young}
    assert lake.read("landing_days")["fingerprint"].to_list() == ["a"]


_WRITER = """
import datetime as dt, sys
from pipeline.lake.tables import Lake
from pipeline.lake.schemas import TABLES
from pipeline.settings.sections import LakeSettings
lake = Lake(LakeSettings(root=sys.argv[1]))
for number in range(6):
    row = {"content_hash": str(number), "segment": -1, "extractor": "e@1", "embedding": [1.0],
           "frames": 1, "decoder": "pyav", "dt": dt.date(2026, 3, 1)}
    print(lake.add("visual_features", TABLES["visual_features"].frame([row])))
"""


def test_concurrent_writers_add_each_key_once(lake: Lake) -> None:
    command = [sys.executable, "-c", _WRITER, lake.root]
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    added = [sum(map(int, writer.communicate()[0].split())) for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert sum(added) == 6
    assert sorted(lake.read("visual_features")["content_hash"]) == list("012345")
