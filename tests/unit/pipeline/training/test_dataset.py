"""The arrays of a run are split by time, see only the past, and are named by their content."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

from pipeline.context import Context
from pipeline.errors import NotEnoughDataError
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings
from pipeline.storage import checked_parquet
from pipeline.storage.store import Store
from pipeline.training import dataset
from pipeline.training.dataset import Dataset, load_dataset
from tests.helpers.small_catalogue import LAST, content, fill


def twenty_picks() -> list[tuple[str, str, str, int]]:
    return [(f"v{n:02}", f"u{n % 3}", f"m{n % 4}", 4 * n) for n in range(20)]


def built(settings: Settings, lake: Lake, store: Store) -> Dataset:
    return load_dataset(store, dataset.build(Context(settings), LAST).run_id)


def test_the_split_is_by_time(settings: Settings, lake: Lake, store: Store) -> None:
    fill(settings, lake, twenty_picks())
    data = built(settings, lake, store)
    train, validation = data.training.train, data.training.validation
    assert (len(train), len(validation), len(data.test)) == (16, 2, 2)
    assert train.time.max() < validation.time.min()
    assert validation.time.max() < data.test.time.min()
    assert data.training.video.shape == (20, 6)
    assert data.training.music.shape == (4, 5)
    assert data.training.segment_video.shape == (0, 6)


def test_the_rows_of_the_tables_describe_the_arrays(
    settings: Settings, lake: Lake, store: Store
) -> None:
    picks = twenty_picks()
    fill(settings, lake, picks)
    data = built(settings, lake, store)
    named = [
        (data.videos["video_id"][int(v)], data.music["music_id"][int(m)])
        for v, m in zip(data.test.video, data.test.music, strict=True)
    ]
    assert named == [(p[0], p[2]) for p in picks[-2:]]
    groups = [data.groups[int(g)] for g in data.training.genre_group]
    assert groups == data.music["genre_group"].to_list()


def test_a_track_without_training_picks_is_cold_whatever_its_age(
    settings: Settings, lake: Lake, store: Store
) -> None:
    """m3 is new and was picked early; m2 is old and was only picked late."""
    picks = [
        (name, who, "m2" if n >= 16 else "m0" if track == "m2" else track, hour)
        for n, (name, who, track, hour) in enumerate(twenty_picks())
    ]
    fill(settings, lake, picks)
    data = built(settings, lake, store)
    assert data.music.filter(data.music["cold"])["music_id"].to_list() == ["m2"]


def test_each_row_has_its_own_features(
    settings: Settings, lake: Lake, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features are read in slices, here of three rows; v07 has none."""
    monkeypatch.setitem(checked_parquet._READ_AHEAD, "batch_size", 3)
    fill(settings, lake, twenty_picks())
    lake.delete("visual_features", f"content_hash = '{content('v07')}'")
    data = built(settings, lake, store)
    assert data.videos["video_id"].to_list() == [f"v{n:02}" for n in range(20) if n != 7]
    for kind, rows, found in (
        ("visual", data.videos, data.training.video),
        ("audio", data.music, data.training.music),
    ):
        stored = lake.read(f"{kind}_features")
        expected = dict(stored.select("content_hash", "embedding").iter_rows())
        for row, name in enumerate(rows["content_hash"]):
            np.testing.assert_array_equal(found[row], np.float32(expected[name]))


def test_a_preference_counts_only_earlier_uploads(
    settings: Settings, lake: Lake, store: Store
) -> None:
    picks = twenty_picks()
    fill(settings, lake, picks)
    before = built(settings, lake, store).training.train
    # A changed last upload must not change any earlier row.
    video, uploader, _, hour = picks[-1]
    fill(settings, lake, [*picks[:-1], (video, uploader, "m2", hour)])
    after = built(settings, lake, store).training.train
    assert np.array_equal(before.preference, after.preference)
    assert np.allclose(before.preference.sum(axis=1), 1)


def test_the_run_id_depends_on_the_inputs(settings: Settings, lake: Lake, store: Store) -> None:
    fill(settings, lake, twenty_picks())
    first = dataset.build(Context(settings), LAST)
    again = dataset.build(Context(settings), LAST)
    assert (first.unchanged, again.unchanged) == (False, True)
    assert first.run_id == again.run_id
    assert first.run_id.startswith("2026-03-04-")
    seeded = settings.model_copy(update={"seed": 1})
    assert dataset.build(Context(seeded), LAST).run_id != first.run_id


def test_rows_of_later_days_are_not_included(settings: Settings, lake: Lake, store: Store) -> None:
    fill(settings, lake, twenty_picks())
    early = dataset.build(Context(settings), dt.date(2026, 3, 2))
    # Two days of six uploads each; m3 comes on the last day, so its picks have no track yet.
    assert early.music == 3
    assert early.videos == 12


def test_the_error_for_missing_features_names_the_extractors(
    settings: Settings, lake: Lake, store: Store
) -> None:
    fill(settings, lake, twenty_picks())
    other = settings.model_copy(update={"visual": settings.visual.model_copy(update={"frames": 5})})
    with pytest.raises(NotEnoughDataError, match="5f"):
        dataset.build(Context(other), LAST)


@pytest.mark.parametrize("hours", [[0], [0, 0, 0]])
def test_picks_of_one_time_are_an_error_before_any_training(
    settings: Settings, lake: Lake, store: Store, hours: list[int]
) -> None:
    fill(settings, lake, [(f"v{i}", "u1", f"m{i}", hour) for i, hour in enumerate(hours)])
    with pytest.raises(NotEnoughDataError, match=f"all {len(hours)} picks are validation or test"):
        dataset.build(Context(settings), LAST)
