"""Each file is extracted once, and its features are stored under their key."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from pipeline.context import Context
from pipeline.errors import ProvenanceError
from pipeline.extraction import accounting, extract, shards
from pipeline.extraction.clips import Modality, extractors
from pipeline.extraction.extract import ShardSummary
from pipeline.ingestion import ingest
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings

Extract = Callable[[dt.date], list[ShardSummary]]
DAY = dt.date(2026, 3, 1)
NEXT_DAY = dt.date(2026, 3, 2)


def test_each_content_is_extracted_once(
    settings: Settings, lake: Lake, one_day: Any, extract_day: Extract
) -> None:
    (summary,) = extract_day(DAY)
    assert (summary.extracted, summary.rejected, summary.skipped) == (5, 0, 0)
    assert shards.plan(Context(settings), [DAY]) == []
    assert accounting.check(Context(settings), DAY).clips == 6
    visual, audio = lake.read("visual_features"), lake.read("audio_features")
    # Two pictures and one segment; two tracks and one segment.
    assert visual["segment"].sort().to_list() == [-1, -1, 0]
    assert audio["segment"].sort().to_list() == [-1, -1, 0]
    assert visual["extractor"].unique().to_list() == [extractors(settings)[Modality.VISUAL]]


def test_stored_frames_are_the_embedding_of_each_frame(
    settings: Settings, lake: Lake, one_day: Any, extract_day: Extract
) -> None:
    extract_day(DAY)
    video = lake.read("videos", pl.col("video_id") == "v2").row(0, named=True)
    frames = lake.read("visual_frames", pl.col("content_hash") == video["content_hash"])
    whole = lake.read("visual_features", pl.col("content_hash") == video["content_hash"])
    assert frames["frame"].to_list() == list(range(whole["frames"][0]))
    halves = np.frombuffer(frames["values"][0], "<f2")
    assert halves.shape == (1280,)
    assert frames["time"].is_sorted()
    mel = lake.read("mel_frames").row(0, named=True)
    assert len(mel["values"]) == 2 * mel["bands"] * mel["frames"]


def test_content_of_an_earlier_day_is_not_decoded_again(
    settings: Settings, lake: Lake, one_day: Any, extract_day: Extract
) -> None:
    extract_day(DAY)
    one_day.deliver(NEXT_DAY, [one_day.video("v9")], [])
    ingest.run(Context(settings), NEXT_DAY)
    assert shards.plan(Context(settings), [NEXT_DAY]) == []
    assert accounting.check(Context(settings), NEXT_DAY).clips == 1


def test_two_days_that_share_a_file_write_its_rows_once(
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


def test_extracting_the_same_shard_twice_skips_everything(
    settings: Settings, lake: Lake, one_day: Any
) -> None:
    (shard,) = shards.plan(Context(settings), [DAY])
    extract.run(Context(settings), shard.plan, shard.shard)
    version = lake.version("visual_features")
    again = extract.run(Context(settings), shard.plan, shard.shard)
    assert (again.extracted, again.skipped) == (0, 5)
    assert lake.version("visual_features") == version


def test_an_unknown_shard_is_an_error(settings: Settings, lake: Lake) -> None:
    with pytest.raises(ProvenanceError, match="no such shard"):
        extract.run(Context(settings), "nothing", 0)
