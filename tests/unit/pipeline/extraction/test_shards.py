"""Plans cover each clip without features once, in shards of about equal cost."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Any

import polars as pl
import pytest

from pipeline.context import Context
from pipeline.extraction import shards
from pipeline.extraction.clips import Modality
from pipeline.extraction.shards import Shard
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings

DAY = dt.date(2026, 3, 1)


def test_shards_cover_each_clip_once(settings: Settings, lake: Lake, one_day: Any) -> None:
    small = settings.extract.model_copy(update={"shard_cpu_seconds": 0.6, "max_shards": 3})
    settings = settings.model_copy(update={"extract": small})
    planned = shards.plan(Context(settings), [DAY])
    rows = lake.read("shards")
    assert len(planned) == 3
    assert len(rows) == rows["content_hash"].n_unique() == 5
    assert shards.plan(Context(settings), [DAY]) == planned


@pytest.mark.usefixtures("catalogue")
def test_a_plan_is_named_by_its_content(settings: Settings) -> None:
    # Pinned: a plan made by an earlier version keeps its name, so that its tasks can be retried.
    (both,) = shards.plan(Context(settings), [DAY])
    content = "shard,job,content_hash\n0,video,a\n0,segments,b\n0,music,b\n0,music,c\n"
    by_hand = content + "['audio', 'visual']"
    assert both.plan == hashlib.sha256(by_hand.encode()).hexdigest()[:16]
    (audio,) = shards.plan(Context(settings), [DAY], [Modality.AUDIO])
    assert audio.plan != both.plan
    assert audio.clips == 3


@pytest.mark.usefixtures("catalogue")
def test_shards_have_about_equal_cost(settings: Settings, lake: Lake) -> None:
    small = settings.extract.model_copy(update={"shard_cpu_seconds": 0.7, "max_shards": 2})
    planned = shards.plan(Context(settings.model_copy(update={"extract": small})), [DAY])
    costs = lake.read("shards").group_by("shard").agg(pl.col("cost").sum())["cost"]
    assert [shard.clips for shard in planned] == [2, 2]
    assert max(costs) - min(costs) < 0.1


def test_a_day_without_clips_has_no_shards(settings: Settings, lake: Lake) -> None:
    assert shards.plan(Context(settings), [DAY]) == []
    assert lake.read("shards").is_empty()


def test_the_label_says_clips_and_minutes() -> None:
    assert Shard("p", 3, 120, 27.6, 99.0).label == "shard 3: 120 clips, 28 min"
