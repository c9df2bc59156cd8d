"""Every row of a checked day has features or a reason in quarantine."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from pipeline.context import Context
from pipeline.errors import LostRowsError, NotIngestedError
from pipeline.extraction import accounting, shards
from pipeline.extraction.clips import Modality, extractors
from pipeline.extraction.extract import ShardSummary
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings

Extract = Callable[[dt.date], list[ShardSummary]]
DAY = dt.date(2026, 3, 1)


def test_a_complete_day_is_written_with_its_extractors(
    settings: Settings, lake: Lake, one_day: Any, extract_day: Extract
) -> None:
    extract_day(DAY)
    summary = accounting.check(Context(settings), DAY)
    assert (summary.day, summary.clips, summary.rejected) == ("2026-03-01", 6, {})
    row = lake.read("feature_days").row(0, named=True)
    assert (row["dt"], row["clips"], row["rejected"]) == (DAY, 6, 0)
    assert row["visual_extractor"] == extractors(settings)[Modality.VISUAL]
    assert row["audio_extractor"] == extractors(settings)[Modality.AUDIO]


def test_a_changed_file_is_quarantined_after_two_attempts(
    settings: Settings, lake: Lake, one_day: Any, extract_day: Extract
) -> None:
    path = settings.landing.root / f"dt={DAY}" / "media" / "blue.webm"
    path.write_bytes(path.read_bytes()[:-1] + b"x")  # changed since its ingest
    extract_day(DAY)
    summary = accounting.check(Context(settings), DAY)
    assert summary.rejected == {"hash_mismatch": 1}
    assert summary.clips == 5
    extract_day(DAY)
    accounting.check(Context(settings), DAY)
    row = lake.read("quarantine", pl.col("step") == "extract").row(0, named=True)
    assert (row["id"], row["attempts"], row["uploader_id"]) == ("v2", 2, "u1")
    assert shards.plan(Context(settings), [DAY]) == []


def test_a_repaired_file_leaves_quarantine(
    settings: Settings, lake: Lake, one_day: Any, extract_day: Extract
) -> None:
    path = settings.landing.root / f"dt={DAY}" / "media" / "blue.webm"
    good = path.read_bytes()
    path.write_bytes(b"x")
    extract_day(DAY)
    accounting.check(Context(settings), DAY)
    path.write_bytes(good)
    extract_day(DAY)
    assert accounting.check(Context(settings), DAY).rejected == {}
    assert lake.read("quarantine", pl.col("step") == "extract").is_empty()


def test_a_row_with_neither_features_nor_a_reason_is_an_error(
    settings: Settings, lake: Lake, one_day: Any
) -> None:
    with pytest.raises(LostRowsError, match="6 rows have neither"):
        accounting.check(Context(settings), DAY)


def test_rows_erased_during_the_check_are_not_lost(
    settings: Settings,
    lake: Lake,
    one_day: Any,
    extract_day: Extract,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    extract_day(DAY)
    read_rows = accounting.without_features

    def erase_first(context: Context, clips: pl.DataFrame, modalities: Any) -> pl.DataFrame:
        erased = clips.filter(pl.col("id") == "v2")
        for table in ("visual_features", "visual_frames"):
            lake.delete_matching(table, erased.select("content_hash"))
        lake.delete_matching("videos", erased.select(video_id="id"))
        return read_rows(context, clips, modalities)

    monkeypatch.setattr(accounting, "without_features", erase_first)
    summary = accounting.check(Context(settings), DAY)
    assert (summary.clips, summary.rejected) == (5, {})


def test_a_day_that_was_not_ingested_is_an_error(settings: Settings, lake: Lake) -> None:
    with pytest.raises(NotIngestedError, match=rf"the day was not ingested \(day {DAY}\)"):
        accounting.check(Context(settings), DAY)
    assert lake.read("feature_days").is_empty()
