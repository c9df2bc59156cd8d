"""A clip is extracted once, a failing one costs itself, and none is lost."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import polars as pl
import pytest

from pipeline.context import Context
from pipeline.errors import LostRowsError, NotIngestedError, ProvenanceError
from pipeline.extraction import accounting, extract, shards
from pipeline.extraction.clips import Modality, extractors
from pipeline.ingestion import ingest
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings

DAY = dt.date(2026, 3, 1)
NEXT_DAY = dt.date(2026, 3, 2)


@pytest.fixture
def one_day(settings: Settings, lake: Lake, platform: Any) -> Any:
    videos = [
        platform.video("v1"),
        platform.video("copy of v1"),
        platform.video("v2", "blue.webm"),
        platform.video("p1", "music_video.mp4", source="pgc", uploader_id="", music_id=""),
    ]
    platform.deliver(DAY, videos, [platform.track("m1"), platform.track("m2", "high.mp3")])
    ingest.run(Context(settings), DAY)
    return platform


def extract_all(settings: Settings, lake: Lake, day: dt.date) -> list[Any]:
    context = Context(settings)
    return [extract.run(context, s.plan, s.shard) for s in shards.plan(context, [day])]


def test_every_content_is_extracted_once(settings: Settings, lake: Lake, one_day: Any) -> None:
    (summary,) = extract_all(settings, lake, DAY)
    assert (summary.extracted, summary.rejected, summary.skipped) == (5, 0, 0)
    assert shards.plan(Context(settings), [DAY]) == []
    assert accounting.check(Context(settings), DAY).clips == 6
    visual, audio = lake.read("visual_features"), lake.read("audio_features")
    # Two pictures and one segment; two tracks and one segment.
    assert visual["segment"].sort().to_list() == [-1, -1, 0]
    assert audio["segment"].sort().to_list() == [-1, -1, 0]
    assert visual["extractor"].unique().to_list() == [extractors(settings)[Modality.VISUAL]]


def test_stored_frames_are_the_embedding_of_each_frame(
    settings: Settings, lake: Lake, one_day: Any
) -> None:
    extract_all(settings, lake, DAY)
    video = lake.read("videos", pl.col("video_id") == "v2").row(0, named=True)
    frames = lake.read("visual_frames", pl.col("content_hash") == video["content_hash"])
    whole = lake.read("visual_features", pl.col("content_hash") == video["content_hash"])
    assert frames["frame"].to_list() == list(range(whole["frames"][0]))
    halves = np.frombuffer(frames["values"][0], "<f2")
    assert halves.shape == (1280,)
    assert frames["time"].is_sorted()
    mel = lake.read("mel_frames").row(0, named=True)
    assert len(mel["values"]) == 2 * mel["bands"] * mel["frames"]


def test_shards_cover_the_clips_once_with_about_equal_cost(
    settings: Settings, lake: Lake, one_day: Any
) -> None:
    small = settings.extract.model_copy(update={"shard_cpu_seconds": 0.6, "max_shards": 3})
    settings = settings.model_copy(update={"extract": small})
    planned = shards.plan(Context(settings), [DAY])
    rows = lake.read("shards")
    assert len(planned) == 3
    assert len(rows) == rows["content_hash"].n_unique() == 5
    assert shards.plan(Context(settings), [DAY]) == planned


def test_failing_file_is_tried_twice_and_no_more(
    settings: Settings, lake: Lake, one_day: Any
) -> None:
    path = settings.landing.root / f"dt={DAY}" / "media" / "blue.webm"
    path.write_bytes(path.read_bytes()[:-1] + b"x")  # changed since its ingest
    extract_all(settings, lake, DAY)
    summary = accounting.check(Context(settings), DAY)
    assert summary.rejected == {"hash_mismatch": 1}
    assert summary.clips == 5
    extract_all(settings, lake, DAY)
    accounting.check(Context(settings), DAY)
    row = lake.read("quarantine", pl.col("step") == "extract").row(0, named=True)
    assert (row["id"], row["attempts"]) == ("v2", 2)
    assert shards.plan(Context(settings), [DAY]) == []


def test_mended_file_leaves_quarantine(settings: Settings, lake: Lake, one_day: Any) -> None:
    path = settings.landing.root / f"dt={DAY}" / "media" / "blue.webm"
    good = path.read_bytes()
    path.write_bytes(b"x")
    extract_all(settings, lake, DAY)
    accounting.check(Context(settings), DAY)
    path.write_bytes(good)
    extract_all(settings, lake, DAY)
    assert accounting.check(Context(settings), DAY).rejected == {}
    assert lake.read("quarantine", pl.col("step") == "extract").is_empty()


def test_content_of_an_earlier_day_is_not_decoded_again(
    settings: Settings, lake: Lake, one_day: Any
) -> None:
    extract_all(settings, lake, DAY)
    one_day.deliver(NEXT_DAY, [one_day.video("v9")], [])
    ingest.run(Context(settings), NEXT_DAY)
    assert shards.plan(Context(settings), [NEXT_DAY]) == []
    assert accounting.check(Context(settings), NEXT_DAY).clips == 1


def test_two_days_that_share_a_file_and_run_side_by_side_write_its_rows_once(
    settings: Settings, lake: Lake, one_day: Any
) -> None:
    one_day.deliver(NEXT_DAY, [one_day.video("v9")], [one_day.track("m9")])
    ingest.run(Context(settings), NEXT_DAY)
    # Both are planned before either is extracted.
    (later,), (earlier,) = (
        shards.plan(Context(settings), [NEXT_DAY]),
        shards.plan(Context(settings), [DAY]),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "pipeline.extraction.extract.without_features", lambda _, clips, modalities: clips
        )
        for shard in (later, earlier):
            extract.run(Context(settings), shard.plan, shard.shard)
    for table in ("visual_features", "visual_frames", "audio_features", "mel_frames"):
        rows = lake.read(table)
        assert not rows.select(pl.struct(TABLES[table].key).is_duplicated().any()).item(), table
        assert rows["dt"].unique().to_list() == [DAY], table


def test_row_without_features_and_without_reason_is_an_error(
    settings: Settings, lake: Lake, one_day: Any
) -> None:
    with pytest.raises(LostRowsError, match="6 rows have neither"):
        accounting.check(Context(settings), DAY)


def test_a_day_that_was_not_ingested_has_no_account(settings: Settings, lake: Lake) -> None:
    with pytest.raises(NotIngestedError, match=f"day {DAY}: the day was not ingested"):
        accounting.check(Context(settings), DAY)
    assert lake.read("feature_days").is_empty()


def test_extracting_the_same_shard_twice_skips_everything(
    settings: Settings, lake: Lake, one_day: Any
) -> None:
    (shard,) = shards.plan(Context(settings), [DAY])
    extract.run(Context(settings), shard.plan, shard.shard)
    version = lake.version("visual_features")
    again = extract.run(Context(settings), shard.plan, shard.shard)
    assert (again.extracted, again.skipped) == (0, 5)
    assert lake.version("visual_features") == version


def test_unknown_shard_is_an_error(settings: Settings, lake: Lake) -> None:
    with pytest.raises(ProvenanceError, match="no such shard"):
        extract.run(Context(settings), "nothing", 0)
