"""Damage in a table's log that is still valid JSON."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
import pytest

from pipeline.errors import ProvenanceError
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.settings.sections import LakeSettings

TABLE = "audio_features"


def sound(content: str, extractor: str = "a@1") -> pl.DataFrame:
    row: dict[str, object] = {
        "content_hash": content,
        "segment": -1,
        "extractor": extractor,
        "embedding": [1.0],
        "decoder": "pyav",
        "dt": dt.date(2026, 3, 1),
    }
    return TABLES[TABLE].frame([row])


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake with two additions, after which the file of the first is removed."""
    lake = Lake(LakeSettings(root=str(tmp_path / "lake")))
    lake.add(TABLE, sound("00"))
    lake.add(TABLE, sound("01"))
    lake.delete(TABLE, "content_hash = '00'")
    return lake


def entry(lake: Lake, version: int) -> Path:
    return Path(lake.uri(TABLE)) / "_delta_log" / f"{version:020}.json"


@pytest.mark.parametrize(
    ("version", "written", "damaged", "message"),
    [
        (2, '{"add":', '{"Add":', "unknown action Add"),
        (3, '{"remove":', '{"rem/ve":', "unknown action rem/ve"),
        (
            3,
            '"remove":{"path":"extractor=a',
            '"remove":{"path":"extractor=c',
            "which no entry has added",
        ),
        (2, '"extractor":"a@1"', '"extractor":"i@1"', "the partition"),
        (2, '"dt":"2026-03-01"', '"dt":"2022-03-01"', "the partition"),
        (2, '"operation":"WRITE"', '"operation":"WR\tTE"', "not an action"),
    ],
)
def test_an_inconsistent_entry_is_named(
    lake: Lake, version: int, written: str, damaged: str, message: str
) -> None:
    path = entry(lake, version)
    text = path.read_text()
    assert written in text
    path.write_text(text.replace(written, damaged))
    with pytest.raises(ProvenanceError, match=message) as caught:
        lake.read(TABLE)
    assert path.name in str(caught.value)


def test_a_file_that_is_removed_twice_is_named(lake: Lake) -> None:
    path = entry(lake, 4)
    path.write_text(entry(lake, 3).read_text())
    with pytest.raises(ProvenanceError, match=r"which no entry has added .*4\.json"):
        lake.read(TABLE)


def test_a_valid_log_passes_with_any_name_of_a_partition(lake: Lake) -> None:
    for name in ("a b", "ü/😀=%41@1", "x\u2028y", "..", "a\nb", "e\u0301"):
        lake.add(TABLE, sound("00", name))
    assert len(lake.read(TABLE)) == 7
    lake.delete(TABLE, "extractor = 'x\u2028y'")
    lake.remove_old_versions(TABLE, 0)
    assert not entry(lake, 0).exists()
    lake.delete(TABLE, "extractor = 'a b'")
    assert sorted(lake.read(TABLE)["extractor"]) == ["..", "a\nb", "a@1", "e\u0301", "ü/😀=%41@1"]
