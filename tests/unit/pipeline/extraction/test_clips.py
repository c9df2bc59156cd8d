"""Rows and clips of a day, their jobs, and which of them lack features."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest

from pipeline.context import Context
from pipeline.extraction.clips import (
    MODALITIES,
    Modality,
    delivered_clips,
    delivered_rows,
    extractors,
    first_delivery_days,
    without_features,
)
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings

DAY = dt.date(2026, 3, 1)
pytestmark = pytest.mark.usefixtures("catalogue")


def add_features(
    settings: Settings, lake: Lake, modality: Modality, *keys: tuple[str, int]
) -> None:
    extra = {"frames": 2} if modality is Modality.VISUAL else {}
    rows = [
        {
            "content_hash": content_hash,
            "segment": segment,
            "extractor": extractors(settings)[modality],
            "embedding": [0.0],
            "decoder": "pyav",
            "dt": DAY,
        }
        | extra
        for content_hash, segment in keys
    ]
    table = f"{modality}_features"
    lake.add(table, TABLES[table].frame(rows))


def pending(settings: Settings, lake: Lake, *modalities: Modality) -> list[tuple[str, str]]:
    """Job and content hash of the clips that lack features."""
    clips = delivered_clips(lake, [DAY], MODALITIES)
    found = without_features(Context(settings), clips, modalities or MODALITIES)
    return found.select("job", "content_hash").rows()


def test_a_day_has_one_row_per_id_and_one_clip_per_content_and_job(lake: Lake) -> None:
    rows = delivered_rows(lake, [DAY], MODALITIES)
    assert rows.select("job", "content_hash", "id").rows() == [
        ("music", "b", "m1"),
        ("music", "c", "m0"),
        ("segments", "b", "p1"),
        ("video", "a", "v1"),
        ("video", "a", "v2"),
    ]
    clips = delivered_clips(lake, [DAY], MODALITIES)
    assert clips["id"].to_list() == ["m1", "m0", "p1", "v1"]
    assert delivered_clips(lake, [DAY + dt.timedelta(days=1)], MODALITIES).is_empty()


def test_only_jobs_of_the_wanted_modality_are_read(lake: Lake) -> None:
    visual = delivered_rows(lake, [DAY], [Modality.VISUAL])
    assert set(visual["job"]) == {"video", "segments"}
    audio = delivered_rows(lake, [DAY], [Modality.AUDIO])
    assert set(audio["job"]) == {"music", "segments"}


def test_the_expected_cost_is_that_of_pixels_and_sound(lake: Lake) -> None:
    cost = dict(delivered_rows(lake, [DAY], MODALITIES).select("id", "cost").iter_rows())
    pixels, sound = 64 * 48 * 25 * 2 / 1e9 * 2.0, 2 * 0.02
    assert cost["v1"] == pytest.approx(0.5 + pixels)
    assert cost["m0"] == pytest.approx(0.5 + sound)
    assert cost["p1"] == pytest.approx(0.5 + pixels + sound)


def test_features_of_a_whole_clip_do_not_count_for_its_segments(
    settings: Settings, lake: Lake
) -> None:
    assert len(pending(settings, lake)) == 4
    add_features(settings, lake, Modality.AUDIO, ("b", -1))
    assert pending(settings, lake) == [("music", "c"), ("segments", "b"), ("video", "a")]
    add_features(settings, lake, Modality.AUDIO, ("b", 0))
    # The segment still lacks its picture.
    assert ("segments", "b") in pending(settings, lake)
    assert ("segments", "b") not in pending(settings, lake, Modality.AUDIO)
    add_features(settings, lake, Modality.VISUAL, ("b", 0))
    assert pending(settings, lake) == [("music", "c"), ("video", "a")]


def test_features_by_another_extractor_do_not_count(settings: Settings, lake: Lake) -> None:
    add_features(settings, lake, Modality.VISUAL, ("a", -1))
    assert ("video", "a") not in pending(settings, lake)
    other = settings.model_copy(update={"visual": settings.visual.model_copy(update={"frames": 3})})
    assert ("video", "a") in pending(other, lake)


def test_content_belongs_to_the_first_day_that_delivered_it(lake: Lake) -> None:
    earlier = DAY - dt.timedelta(days=3)
    track = lake.read("music", pl.col("music_id") == "m0").with_columns(
        music_id=pl.lit("m9"), dt=pl.lit(earlier)
    )
    lake.add("music", track)
    assert first_delivery_days(lake, pl.Series(["a", "c"])) == {"a": DAY, "c": earlier}
