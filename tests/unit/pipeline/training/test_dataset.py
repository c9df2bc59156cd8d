"""The arrays of a run: split by time, seeing only the past, named by what went in."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Any

import numpy as np
import pytest

from pipeline.context import Context
from pipeline.errors import NotEnoughDataError
from pipeline.extraction.clips import Modality, extractors
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings
from pipeline.storage import checked_parquet
from pipeline.storage.store import Store
from pipeline.training import confounders, dataset
from pipeline.training.dataset import Dataset, load_dataset

FIRST = dt.date(2026, 3, 1)
LAST = dt.date(2026, 3, 4)
TRACKS = {"m0": "rock", "m1": "rock", "m2": "pop", "m3": "folk"}


def content(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def fill(settings: Settings, lake: Lake, picks: list[tuple[str, str, str, int]]) -> None:
    """Catalogue and features without media: (video, uploader, track, hour of upload)."""
    names = extractors(settings)
    rng = np.random.default_rng(0)
    base: dict[str, Any] = {"media_path": "x", "duration": 1.0, "dt": FIRST}
    now = dt.datetime(2026, 3, 5, tzinfo=dt.UTC)
    start = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    videos = [
        base
        | {
            "video_id": video,
            "uploader_id": uploader,
            "music_id": track,
            "source": "ugc",
            "uploaded_at": start + dt.timedelta(hours=hour),
            "dt": (start + dt.timedelta(hours=hour)).date(),
            "content_hash": content(video),
            "width": 2,
            "height": 2,
            "fps": 1.0,
            "ingested_at": now,
        }
        for video, uploader, track, hour in picks
    ]
    music = [
        base
        | {
            "music_id": track,
            "genre": group,
            "genre_group": group,
            "title": track,
            "artist": "x",
            "content_hash": content(track),
            "ingested_at": now,
            "dt": LAST if track == "m3" else FIRST,
        }
        for track, group in TRACKS.items()
    ]
    visual = [
        {
            "content_hash": content(row[0]),
            "segment": -1,
            "extractor": names[Modality.VISUAL],
            "embedding": rng.normal(size=6).tolist(),
            "frames": 1,
            "decoder": "pyav",
            "dt": FIRST,
        }
        for row in picks
    ]
    audio = [
        {
            "content_hash": content(track),
            "segment": -1,
            "extractor": names[Modality.AUDIO],
            "embedding": rng.normal(size=5).tolist(),
            "decoder": "pyav",
            "dt": FIRST,
        }
        for track in TRACKS
    ]
    for table, rows in (
        ("videos", videos),
        ("music", music),
        ("visual_features", visual),
        ("audio_features", audio),
    ):
        lake.replace(table, TABLES[table].frame(rows), {})


def twenty_picks() -> list[tuple[str, str, str, int]]:
    return [(f"v{n:02}", f"u{n % 3}", f"m{n % 4}", 4 * n) for n in range(20)]


def built(settings: Settings, lake: Lake, store: Store) -> Dataset:
    return load_dataset(store, dataset.build(Context(settings), LAST).run_id)


def test_split_is_by_time(settings: Settings, lake: Lake, store: Store) -> None:
    fill(settings, lake, twenty_picks())
    data = built(settings, lake, store)
    train, validation = data.training.train, data.training.validation
    assert (len(train), len(validation), len(data.test)) == (16, 2, 2)
    assert train.time.max() < validation.time.min()
    assert validation.time.max() < data.test.time.min()
    assert data.training.video.shape == (20, 6)
    assert data.training.music.shape == (4, 5)
    assert data.training.segment_video.shape == (0, 6)


def test_rows_describe_the_arrays(settings: Settings, lake: Lake, store: Store) -> None:
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


def test_a_track_without_a_training_pick_is_cold_however_old(
    settings: Settings, lake: Lake, store: Store
) -> None:
    """m3 came on the last day and was picked early, m2 is old and was picked late."""
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
    """Read in slices of three rows; what lacks features is left out."""
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


def test_preference_sees_only_the_past(settings: Settings, lake: Lake, store: Store) -> None:
    picks = twenty_picks()
    fill(settings, lake, picks)
    before = built(settings, lake, store).training.train
    # A changed last upload must not change any earlier row.
    video, uploader, _, hour = picks[-1]
    fill(settings, lake, [*picks[:-1], (video, uploader, "m2", hour)])
    after = built(settings, lake, store).training.train
    assert np.array_equal(before.preference, after.preference)
    # A changed first upload must change the later rows of its uploader, and of nobody else's
    # point-in-time counts: the first row of each uploader is the prior in both.
    assert np.allclose(before.preference.sum(axis=1), 1)


def test_run_is_named_by_what_went_in(settings: Settings, lake: Lake, store: Store) -> None:
    fill(settings, lake, twenty_picks())
    first = dataset.build(Context(settings), LAST)
    again = dataset.build(Context(settings), LAST)
    assert (first.unchanged, again.unchanged) == (False, True)
    assert first.run_id == again.run_id
    assert first.run_id.startswith("2026-03-04-")
    seeded = settings.model_copy(update={"seed": 1})
    assert dataset.build(Context(seeded), LAST).run_id != first.run_id


def test_later_days_stay_out(settings: Settings, lake: Lake, store: Store) -> None:
    fill(settings, lake, twenty_picks())
    early = dataset.build(Context(settings), dt.date(2026, 3, 2))
    # Two days of six uploads each; m3 comes on the last day, so its picks have no track yet.
    assert early.music == 3
    assert early.videos == 12


def test_no_features_is_an_error_that_names_the_extractors(
    settings: Settings, lake: Lake, store: Store
) -> None:
    fill(settings, lake, twenty_picks())
    other = settings.model_copy(update={"visual": settings.visual.model_copy(update={"frames": 5})})
    with pytest.raises(NotEnoughDataError, match="5f"):
        dataset.build(Context(other), LAST)


@pytest.mark.parametrize("hours", [[0], [0, 0, 0]])
def test_nothing_to_train_on_is_said_before_any_training(
    settings: Settings, lake: Lake, store: Store, hours: list[int]
) -> None:
    fill(settings, lake, [(f"v{i}", "u1", f"m{i}", hour) for i, hour in enumerate(hours)])
    with pytest.raises(NotEnoughDataError, match=f"all {len(hours)} picks are validation or test"):
        dataset.build(Context(settings), LAST)


def test_confounders_count_each_uploader(settings: Settings, lake: Lake) -> None:
    fill(settings, lake, [("a", "u1", "m0", 0), ("b", "u1", "m2", 1), ("c", "u2", "m1", 2)])
    summary = confounders.run(Context(settings), LAST)
    assert (summary.uploaders, summary.picks) == (2, 3)
    rows = lake.read("uploader_genres").sort("uploader_id")
    groups = rows["groups"][0].split(",")
    first = dict(zip(groups, rows["counts"][0], strict=True))
    assert {name: n for name, n in first.items() if n} == {"rock": 1, "pop": 1}
    assert np.allclose([sum(row) for row in rows["preference"]], 1, atol=1e-6)
    # One pseudo-count a group: rock has 2 + 1 of 3 + 7.
    assert summary.population["rock"] == pytest.approx(0.3)


def test_confounders_without_picks_are_an_error(settings: Settings, lake: Lake) -> None:
    with pytest.raises(NotEnoughDataError):
        confounders.run(Context(settings), LAST)
