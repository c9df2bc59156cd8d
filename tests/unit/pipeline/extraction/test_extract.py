"""Each file is extracted once, and its features are stored under their key."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from features import Job
from pipeline.context import Context
from pipeline.extraction import accounting, extract, shards
from pipeline.extraction.clips import Modality, extractors
from pipeline.extraction.extract import ShardSummary
from pipeline.ingestion import ingest
from pipeline.lake.catalog import id_hash
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings
from pipeline.upkeep import erasure

Extract = Callable[[dt.date], list[ShardSummary]]
DAY = dt.date(2026, 3, 1)
NEXT_DAY = dt.date(2026, 3, 2)


def request_deletion(lake: Lake, kind: str, name: str) -> None:
    now = dt.datetime.now(dt.UTC)
    row = {"kind": kind, "id_hash": id_hash(kind, name), "requested_at": now, "dt": DAY}
    lake.add("deletions", TABLES["deletions"].frame([row]))


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


def test_a_shard_whose_rows_were_erased_is_done(settings: Settings, lake: Lake) -> None:
    summary = extract.run(Context(settings), "nothing", 0)
    assert (summary.extracted, summary.rejected, summary.skipped) == (0, 0, 0)


@pytest.mark.parametrize("commit_clips", [1, 200])
@pytest.mark.parametrize("change", ["erasure", "new delivery"])
def test_content_that_leaves_the_catalogue_during_the_extraction_is_dropped(
    settings: Settings,
    lake: Lake,
    one_day: Any,
    monkeypatch: pytest.MonkeyPatch,
    commit_clips: int,
    change: str,
) -> None:
    row = lake.read("videos", pl.col("video_id") == "v2").row(0, named=True)

    def remove_v2() -> None:
        if change == "erasure":
            request_deletion(lake, "video", "v2")
            erasure.run(Context(settings))
        else:
            videos = [one_day.video("v1"), one_day.video("copy of v1")]
            one_day.deliver(DAY, videos, [one_day.track("m1"), one_day.track("m2", "high.mp3")])
            ingest.run(Context(settings), DAY)

    jobs = extract._jobs

    def then_remove(*arguments: Any) -> Iterator[Job]:
        yield from list(jobs(*arguments))
        remove_v2()

    monkeypatch.setattr(extract, "_jobs", then_remove)
    few = settings.extract.model_copy(update={"commit_clips": commit_clips})
    settings = settings.model_copy(update={"extract": few})
    (shard,) = shards.plan(Context(settings), [DAY])
    summary = extract.run(Context(settings), shard.plan, shard.shard)
    assert summary.extracted + summary.skipped == 5
    assert summary.rejected == 0
    assert accounting.check(Context(settings), DAY).rejected == {}
    if commit_clips == 200:
        assert summary.extracted == (4 if change == "erasure" else 3)
        for table in ("visual_features", "visual_frames", "failures"):
            left = lake.read(table, pl.col("content_hash") == row["content_hash"])
            assert left.is_empty(), table


def test_content_that_left_the_catalogue_before_its_shard_starts_is_not_decoded(
    settings: Settings, lake: Lake, one_day: Any
) -> None:
    (shard,) = shards.plan(Context(settings), [DAY])
    one_day.deliver(DAY, [one_day.video("v1")], [one_day.track("m1")])
    ingest.run(Context(settings), DAY)
    summary = extract.run(Context(settings), shard.plan, shard.shard)
    assert (summary.extracted, summary.rejected, summary.skipped) == (2, 0, 3)


def test_a_failure_of_erased_content_is_not_recorded(
    settings: Settings, lake: Lake, one_day: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (settings.landing.root / f"dt={DAY}" / "media" / "blue.webm").write_bytes(b"x")
    (shard,) = shards.plan(Context(settings), [DAY])
    jobs = extract._jobs

    def then_erase(*arguments: Any) -> Iterator[Job]:
        yield from list(jobs(*arguments))
        request_deletion(lake, "video", "v2")
        erasure.run(Context(settings))

    monkeypatch.setattr(extract, "_jobs", then_erase)
    summary = extract.run(Context(settings), shard.plan, shard.shard)
    assert (summary.extracted, summary.rejected, summary.skipped) == (4, 0, 1)
    assert lake.read("failures").is_empty()


@pytest.mark.parametrize("left_out", ["visual_frames", "mel_frames"])
def test_a_setting_leaves_a_table_of_frames_out(
    settings: Settings, lake: Lake, one_day: Any, left_out: str
) -> None:
    """Fault 37."""
    extraction = settings.extract.model_copy(update={left_out: False})
    context = Context(settings.model_copy(update={"extract": extraction}))
    (shard,) = shards.plan(context, [DAY])
    assert extract.run(context, shard.plan, shard.shard).extracted == 5
    for table in ("visual_features", "visual_frames", "audio_features", "mel_frames"):
        assert lake.read(table).is_empty() == (table == left_out), table
    # No clip lacks features because of it, with any setting.
    assert shards.plan(Context(settings), [DAY]) == []
    assert accounting.check(context, DAY).clips == 6


def test_the_uses_of_frames_that_docs_media_shows(
    settings: Settings,
    lake: Lake,
    one_day: Any,
    extract_day: Extract,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fault 37."""
    extract_day(DAY)
    page = (Path(__file__).parents[4] / "docs" / "media.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?def pooled.*?)```", page, re.DOTALL)
    monkeypatch.setattr(Context, "load", lambda: Context(settings))
    names: dict[str, Any] = {}
    exec(code, names)
    video = lake.read("videos", pl.col("video_id") == "v2")["content_hash"][0]
    track = lake.read("music", pl.col("music_id") == "m1")["content_hash"][0]
    assert names["pooled"](video).shape == (1280,)
    bands, frames = names["spectrogram"](track).shape
    assert bands > 1
    assert frames > 1
