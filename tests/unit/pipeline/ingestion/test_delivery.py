"""The landing days that need a run: new, changed, not checked, or with files to retry."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from pipeline.context import Context
from pipeline.errors import ManifestError
from pipeline.ingestion import delivery, ingest
from pipeline.ingestion.refused_days import record_refused_day
from pipeline.lake.codes import IdKind
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings

DAY = dt.date(2026, 3, 1)
NEXT_DAY = dt.date(2026, 3, 2)


def due(settings: Settings) -> list[dt.date]:
    return list(delivery.unfinished_days(Context(settings), DAY, NEXT_DAY))


def reasons(lake: Lake) -> dict[str, str]:
    return dict(lake.read("quarantine").select("id", "reason").iter_rows())


def test_a_delivery_has_its_manifests_or_the_error_that_prevented_reading_them(
    settings: Settings, lake: Lake, platform: Any
) -> None:
    folder = platform.deliver(DAY, [platform.video("v1")], [platform.track("m1")])
    read = delivery.read_delivery(settings, lake, DAY)
    assert read.error is None
    assert {kind: len(m.rows) for kind, m in read.manifests.items()} == dict.fromkeys(
        (IdKind.MUSIC, IdKind.VIDEO), 1
    )
    (folder / "videos.csv").unlink()
    broken = delivery.read_delivery(settings, lake, DAY)
    assert isinstance(broken.error, ManifestError)
    assert broken.fingerprint != read.fingerprint


def test_only_complete_days_of_the_range_are_listed(settings: Settings, platform: Any) -> None:
    for number in range(4):
        platform.deliver(DAY + dt.timedelta(days=number), [], [])
    (settings.landing.root / f"dt={NEXT_DAY}" / "_SUCCESS").unlink()
    last = DAY + dt.timedelta(days=2)
    assert delivery.complete_days(settings, DAY, last) == [DAY, last]


@pytest.mark.parametrize(
    ("section", "change", "differs"),
    [
        ("landing", {"clock_tolerance_hours": 1.0}, True),
        ("extract", {"segment_seconds": 5.0}, True),
        ("extract", {"workers": 4}, False),
        ("landing", {"reject_share": 0.5}, False),
    ],
)
def test_a_setting_that_changes_the_result_of_an_ingest_changes_the_fingerprint(
    settings: Settings, lake: Lake, platform: Any, section: str, change: Any, differs: bool
) -> None:
    platform.deliver(DAY, [], [platform.track("m1")])
    before = delivery.read_delivery(settings, lake, DAY).fingerprint
    changed = getattr(settings, section).model_copy(update=change)
    other = settings.model_copy(update={section: changed})
    assert (delivery.read_delivery(other, lake, DAY).fingerprint != before) is differs


def test_a_changed_day_needs_a_run_and_is_replaced(
    settings: Settings, lake: Lake, platform: Any, account: Any
) -> None:
    platform.deliver(DAY, [platform.video("v1")], [platform.track("m1")])
    assert due(settings) == [DAY]
    ingest.run(Context(settings), DAY)
    account(DAY)
    assert due(settings) == []
    platform.deliver(DAY, [platform.video("v2")], [platform.track("m1")])
    assert due(settings) == [DAY]
    ingest.run(Context(settings), DAY)
    assert lake.read("videos")["video_id"].to_list() == ["v2"]
    # It was ingested, but not checked since.
    assert due(settings) == [DAY]


def test_complete_days_before_the_lookback_are_missed_until_they_are_ingested_or_refused(
    settings: Settings, lake: Lake, platform: Any
) -> None:
    """Fault 19."""
    today = DAY + dt.timedelta(days=settings.landing.lookback_days + 2)
    platform.deliver(DAY, [], [platform.track("m1")])
    platform.deliver(NEXT_DAY, [], [])
    # The last night, that of the day before, looked back to NEXT_DAY.
    assert delivery.missed_days(settings, lake, today) == [DAY]
    assert delivery.missed_days(settings, lake, today + dt.timedelta(days=1)) == [DAY, NEXT_DAY]
    ingest.run(Context(settings), DAY)
    record_refused_day(lake, NEXT_DAY, "f", "ingest", ManifestError("no header"))
    assert delivery.missed_days(settings, lake, today + dt.timedelta(days=1)) == []
    platform.deliver(DAY - dt.timedelta(days=1), [], [])
    (settings.landing.root / "dt=2026-02-28" / "_SUCCESS").unlink()
    assert delivery.missed_days(settings, lake, today) == []


def test_a_late_track_of_an_earlier_day_reopens_the_day_that_names_it(
    settings: Settings, lake: Lake, platform: Any, account: Any
) -> None:
    platform.deliver(DAY, [], [])
    platform.deliver(NEXT_DAY, [platform.video("v1")], [])
    ingest.run(Context(settings), NEXT_DAY)
    for day in (DAY, NEXT_DAY):
        account(day)
    assert reasons(lake) == {"v1": "unknown_music"}
    platform.deliver(DAY, [], [platform.track("m1")])
    ingest.run(Context(settings), DAY)
    assert NEXT_DAY in due(settings)
    ingest.run(Context(settings), NEXT_DAY)
    assert reasons(lake) == {}
    assert lake.read("videos")["video_id"].to_list() == ["v1"]


def test_a_file_that_failed_for_a_transient_reason_is_tried_once_more(
    settings: Settings, lake: Lake, platform: Any, account: Any
) -> None:
    platform.deliver(DAY, [], [platform.track("m1"), platform.track("m2", media_path="media")])
    for attempts in (1, 2):
        assert due(settings) == [DAY]
        assert ingest.run(Context(settings), DAY).rejected == {"unreadable": 1}
        assert lake.read("quarantine")["attempts"].to_list() == [attempts]
        account(DAY)
    assert due(settings) == []
    assert ingest.run(Context(settings), DAY).unchanged


def test_a_second_attempt_that_is_killed_is_repeated(
    settings: Settings, lake: Lake, platform: Any, account: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.deliver(DAY, [], [platform.track("m1"), platform.track("m2", media_path="media")])
    ingest.run(Context(settings), DAY)
    account(DAY)

    def kill(*_: Any) -> None:
        raise RuntimeError("killed after the quarantine was written")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.ingestion.ingest._write_catalogue", kill)
        with pytest.raises(RuntimeError):
            ingest.run(Context(settings), DAY)
    assert due(settings) == [DAY]
    assert not ingest.run(Context(settings), DAY).unchanged


def test_a_fixed_file_replaces_the_broken_one_of_its_day(
    settings: Settings, lake: Lake, platform: Any, account: Any
) -> None:
    tracks = [platform.track("m1", "noise.mp4"), platform.track("m2")]
    folder: Path = platform.deliver(DAY, [], tracks)
    ingest.run(Context(settings), DAY)
    account(DAY)
    assert lake.read("music")["music_id"].to_list() == ["m2"]
    good = (folder / "media" / "high.mp3").read_bytes()
    # Fix a rejected file, and change an accepted one.
    (folder / "media" / "noise.mp4").write_bytes(good)
    (folder / "media" / "low.ogg").write_bytes(good)
    assert due(settings) == [DAY]
    assert ingest.run(Context(settings), DAY).accepted == 2
    assert lake.read("quarantine").is_empty()
    assert lake.read("music")["content_hash"].n_unique() == 1
    account(DAY)
    assert due(settings) == []
