"""Every row of a day ends in the catalogue or in quarantine, with its reason."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from features import MediaInfo
from pipeline.context import Context
from pipeline.errors import DayNotReadyError, ManifestError, TooManyRejectsError
from pipeline.ingestion import ingest
from pipeline.ingestion.delivery import unfinished_days
from pipeline.ingestion.ingest import segment_rows
from pipeline.ingestion.refused_days import read_refused_days
from pipeline.ingestion.row_rules import PendingRow
from pipeline.lake.codes import IdKind
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings
from pipeline.settings.sections import ExtractSettings, LandingSettings

DAY = dt.date(2026, 3, 1)
NEXT_DAY = dt.date(2026, 3, 2)


def due(settings: Settings) -> list[dt.date]:
    return list(unfinished_days(Context(settings), DAY, DAY))


def reasons(lake: Lake) -> dict[str, str]:
    return dict(lake.read("quarantine").select("id", "reason").iter_rows())


def test_accepts_good_rows_with_what_the_probe_found(
    settings: Settings, lake: Lake, platform: Any
) -> None:
    platform.deliver(DAY, [platform.video("v1")], [platform.track("m1", genre=" Metal ")])
    summary = ingest.run(Context(settings), DAY)
    assert (summary.rows, summary.accepted, summary.rejected) == (2, 2, {})
    video = lake.read("videos").row(0, named=True)
    file = platform.media / "red.mp4"
    assert video["content_hash"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (video["width"], video["height"]) == (64, 48)
    assert video["fps"] == pytest.approx(5, rel=0.2)
    assert video["uploaded_at"] == dt.datetime(2026, 3, 1, 10, tzinfo=dt.UTC)
    assert lake.read("music")["genre_group"].to_list() == ["rock"]


def test_cuts_music_videos_into_segments_and_drops_a_short_last_one(
    settings: Settings, lake: Lake, platform: Any
) -> None:
    extract = settings.extract.model_copy(update={"segment_seconds": 3.0})
    settings = settings.model_copy(update={"extract": extract})
    row = platform.video("p1", "music_video.mp4", source="pgc", uploader_id="", music_id="")
    platform.deliver(DAY, [row], [platform.track("m1")])
    ingest.run(Context(settings), DAY)
    segments = lake.read("segments").sort("segment")
    assert segments["segment_id"].to_list() == ["p1#0", "p1#1"]
    assert segments.select("start", "end").rows() == [(0.0, 3.0), (3.0, 6.0)]


def test_segments_cover_the_time_with_picture_and_sound() -> None:
    info = MediaInfo("0" * 64, 9, 30.0, (1.5, 15.0), 64, 48, 25.0, True, True, "mp4", "h264", "aac")
    video = PendingRow(IdKind.VIDEO, "p1", {}, "videos.csv, row 1", info)
    settings = ExtractSettings(segment_seconds=5, min_segment_seconds=3)
    rows = segment_rows(settings, DAY, video)
    assert [(row["start"], row["end"]) for row in rows] == [(1.5, 6.5), (6.5, 11.5), (11.5, 15.0)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"media_path": "../../../etc/passwd"}, "outside_landing"),
        ({"media_path": "/etc/passwd"}, "outside_landing"),
        ({"media_path": "media/link.mp4"}, "outside_landing"),
        ({"media_path": "media/absent.mp4"}, "missing"),
        ({"media_path": "media/noise.mp4"}, "unsupported_container"),
        ({"media_path": "media\\red.mp4"}, "missing"),
        ({"media_path": "media"}, "unreadable"),
        ({"media_path": "media/pipe.mp4"}, "unreadable"),
        ({"media_path": "x" * 300}, "unreadable"),
        ({"media_path": "media/low.ogg"}, "no_video"),
        ({"sha256": "0" * 64}, "hash_mismatch"),
        ({"sha256": "xyz"}, "invalid_field"),
        ({"music_id": "nobody's"}, "unknown_music"),
        ({"music_id": ""}, "invalid_field"),
        ({"uploader_id": ""}, "invalid_field"),
        ({"uploader_id": "u1 "}, "invalid_field"),
        ({"music_id": "\u00a0m1"}, "invalid_field"),
        ({"source": "tv"}, "invalid_field"),
        ({"uploaded_at": "yesterday"}, "invalid_field"),
        ({"uploaded_at": "2026-03-01T10:00:00"}, "invalid_field"),
        ({"uploaded_at": "2026-03-05T00:00:00Z"}, "future_upload"),
        ({"uploaded_at": "1970-01-01T00:00:00Z"}, "invalid_field"),
        ({"uploaded_at": "0001-01-01T00:00:00+01:00"}, "invalid_field"),
    ],
)
def test_quarantines_a_bad_video_and_keeps_the_rest(
    settings: Settings, lake: Lake, platform: Any, changes: dict[str, str], reason: str
) -> None:
    videos = [platform.video("good"), platform.video("bad", **changes)]
    folder = platform.deliver(DAY, videos, [platform.track("m1")])
    (folder / "media" / "link.mp4").symlink_to("red.mp4")
    os.mkfifo(folder / "media" / "pipe.mp4")
    summary = ingest.run(Context(settings), DAY)
    assert lake.read("videos")["video_id"].to_list() == ["good"]
    assert reasons(lake) == {"bad": reason}
    assert summary.accepted + sum(summary.rejected.values()) == summary.rows == 3
    detail = lake.read("quarantine")["detail"][0]
    assert "videos.csv row 2" in detail
    if reason == "invalid_field":
        assert f"field {next(iter(changes))}" in detail


def test_names_a_row_that_is_not_valid_csv(settings: Settings, lake: Lake, platform: Any) -> None:
    folder = platform.deliver(DAY, [platform.video("v1")], [platform.track("m1")])
    with (folder / "videos.csv").open("a") as stream:
        stream.write("only,three,cells\n")
    ingest.run(Context(settings), DAY)
    row = lake.read("quarantine").row(0, named=True)
    assert (row["id"], row["reason"]) == ("videos.csv:2", "unreadable_row")
    assert "3 cells under 7 columns" in row["detail"]


def test_the_first_of_several_rows_with_one_id_is_accepted(
    settings: Settings, lake: Lake, platform: Any
) -> None:
    rows = [platform.video("v1"), platform.video("v1", "blue.webm"), platform.video("v1")]
    platform.deliver(DAY, rows, [platform.track("m1")])
    summary = ingest.run(Context(settings), DAY)
    assert lake.read("videos")["media_path"].to_list() == ["media/red.mp4"]
    assert summary.rejected == {"duplicate_id": 2}


def test_an_id_belongs_to_its_earliest_day(settings: Settings, lake: Lake, platform: Any) -> None:
    platform.deliver(DAY, [platform.video("v1"), platform.video("v2")], [platform.track("m1")])
    later = [platform.video("v1"), platform.video("v2", "blue.webm"), platform.video("v3")]
    platform.deliver(NEXT_DAY, later, [])
    ingest.run(Context(settings), DAY)
    summary = ingest.run(Context(settings), NEXT_DAY)
    assert reasons(lake) == {"v1": "repeated", "v2": "id_conflict"}
    assert summary.accepted == 1


def test_a_repeated_ingest_changes_nothing(settings: Settings, lake: Lake, platform: Any) -> None:
    folder = platform.deliver(DAY, [platform.video("v1")], [platform.track("m1")])
    ingest.run(Context(settings), DAY)
    before = lake.read("videos"), lake.version("videos")
    assert ingest.run(Context(settings), DAY).unchanged
    assert lake.version("videos") == before[1]
    os.utime(folder / "media" / "red.mp4", (1, 1))
    assert not ingest.run(Context(settings), DAY).unchanged
    assert lake.read("videos").equals(before[0])


@pytest.mark.parametrize("broken", ["music", "manifest"])
def test_a_good_delivery_put_back_with_its_old_times_replaces_the_refused_account(
    settings: Settings, lake: Lake, platform: Any, account: Any, broken: str
) -> None:
    """Fault 23."""
    landing = LandingSettings(root=settings.landing.root, reject_share=0.3)
    settings = settings.model_copy(update={"landing": landing})
    good = [platform.track("m1"), platform.track("m2", "noise.mp4"), platform.track("m3")]
    good.append(platform.track("m4"))
    folder = platform.deliver(DAY, [], good)
    ingest.run(Context(settings), DAY)
    account(DAY)
    before = lake.read("quarantine"), lake.read("music")
    saved = (folder / "music.csv").read_bytes()
    if broken == "music":
        platform.deliver(DAY, [], [platform.track(name, "noise.mp4") for name in ("m1", "m3")])
    else:
        (folder / "music.csv").write_bytes(b"nonsense")
    with pytest.raises((TooManyRejectsError, ManifestError)):
        ingest.run(Context(settings), DAY)
    assert [refusal.day for refusal in read_refused_days(lake)] == [DAY]
    assert due(settings) == []
    (folder / "music.csv").write_bytes(saved)
    assert due(settings) == [DAY]
    assert not ingest.run(Context(settings), DAY).unchanged
    # An unreadable manifest did not replace the quarantine, so this is the second attempt.
    assert lake.read("quarantine").drop("attempts").equals(before[0].drop("attempts"))
    assert lake.read("music").equals(before[1])
    assert read_refused_days(lake) == []
    assert ingest.run(Context(settings), DAY).unchanged


def test_an_ingest_that_is_killed_after_the_quarantine_is_repeated_for_the_old_delivery(
    settings: Settings, lake: Lake, platform: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = platform.deliver(DAY, [], [platform.track("m1"), platform.track("m2", "noise.mp4")])
    ingest.run(Context(settings), DAY)
    before = lake.read("quarantine")
    saved = (folder / "music.csv").read_bytes()
    platform.deliver(DAY, [], [platform.track("m1", "noise.mp4")])

    def kill(*_: Any) -> None:
        raise RuntimeError("killed after the quarantine was written")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.ingestion.ingest._write_catalogue", kill)
        with pytest.raises(RuntimeError):
            ingest.run(Context(settings), DAY)
    (folder / "music.csv").write_bytes(saved)
    assert not ingest.run(Context(settings), DAY).unchanged
    assert lake.read("quarantine").equals(before)


def test_an_earlier_day_that_was_not_ingested_is_ingested_first(
    settings: Settings, lake: Lake, platform: Any
) -> None:
    platform.deliver(DAY, [], [platform.track("m1")])
    platform.deliver(NEXT_DAY, [platform.video("v1")], [])
    assert ingest.run(Context(settings), NEXT_DAY).accepted == 1
    assert ingest.run(Context(settings), DAY).unchanged


def test_an_earlier_day_that_fails_does_not_fail_this_one(
    settings: Settings, lake: Lake, platform: Any
) -> None:
    broken = platform.deliver(DAY, [], [])
    (broken / "music.csv").write_text("nonsense\n")
    platform.deliver(NEXT_DAY, [platform.video("v1")], [platform.track("m1")])
    assert ingest.run(Context(settings), NEXT_DAY).accepted == 2
    assert lake.read("landing_days")["dt"].to_list() == [NEXT_DAY]


def test_an_incomplete_day_names_the_missing_file(
    settings: Settings, lake: Lake, platform: Any
) -> None:
    folder = platform.deliver(DAY, [], [])
    (folder / "_SUCCESS").unlink()
    with pytest.raises(DayNotReadyError, match=r"dt=2026-03-01/_SUCCESS"):
        ingest.run(Context(settings), DAY)


def test_a_missing_column_fails_the_day_and_is_named(
    settings: Settings, lake: Lake, platform: Any
) -> None:
    folder = platform.deliver(DAY, [], [])
    platform.write(folder / "videos.csv", ["video_id", "colour"], [{"video_id": "v1"}])
    with pytest.raises(ManifestError, match=r"'source'.*'colour' .*videos.csv"):
        ingest.run(Context(settings), DAY)


def test_two_formats_of_one_manifest_fail_the_day(
    settings: Settings, lake: Lake, platform: Any
) -> None:
    folder = platform.deliver(DAY, [], [])
    (folder / "videos.jsonl").touch()
    with pytest.raises(ManifestError, match="several formats"):
        ingest.run(Context(settings), DAY)


def test_too_many_rejects_fail_the_day_after_the_quarantine_is_written(
    settings: Settings, lake: Lake, platform: Any
) -> None:
    landing = LandingSettings(root=settings.landing.root, reject_share=0.3)
    settings = settings.model_copy(update={"landing": landing})
    bad = platform.video("bad", "noise.mp4")
    platform.deliver(DAY, [bad, platform.video("good")], [platform.track("m1")])
    with pytest.raises(TooManyRejectsError, match=r"1 of 3 rows rejected, 30% allowed"):
        ingest.run(Context(settings), DAY)
    assert reasons(lake) == {"bad": "unsupported_container"}
    assert lake.read("videos").is_empty()


def test_repeated_rows_do_not_hide_that_every_new_row_is_broken(
    settings: Settings, lake: Lake, platform: Any
) -> None:
    """Fault 22."""
    landing = LandingSettings(root=settings.landing.root, reject_share=0.25)
    settings = settings.model_copy(update={"landing": landing})
    old = [platform.track(f"m{number}") for number in range(6)]
    platform.deliver(DAY, [], old)
    ingest.run(Context(settings), DAY)
    new = [platform.track(f"n{number}", "noise.mp4") for number in range(2)]
    platform.deliver(NEXT_DAY, [], [*old, *new])
    with pytest.raises(TooManyRejectsError, match=r"2 of 2 rows rejected, 25% allowed"):
        ingest.run(Context(settings), NEXT_DAY)


def test_a_deleted_uploader_stays_deleted(settings: Settings, lake: Lake, platform: Any) -> None:
    folder = platform.deliver(DAY, [platform.video("v1")], [platform.track("m1")])
    (folder / "deletions.jsonl").write_text(
        '{"kind": "uploader", "id": "u1", "requested_at": "2026-03-01T12:00:00Z"}\n'
    )
    summary = ingest.run(Context(settings), DAY)
    assert summary.rejected == {"deleted": 1}
    everything = lake.read("quarantine").write_json() + lake.read("deletions").write_json()
    assert "u1" not in everything
    assert "v1" not in everything


def test_an_unreadable_deletion_request_is_quarantined(
    settings: Settings, lake: Lake, platform: Any
) -> None:
    folder = platform.deliver(DAY, [], [platform.track("m1")])
    (folder / "deletions.jsonl").write_text('{"kind": "uploader", "id": "u1"}\n{"kin')
    summary = ingest.run(Context(settings), DAY)
    assert summary.rejected == {"invalid_field": 1, "unreadable_row": 1}
    assert summary.accepted + sum(summary.rejected.values()) == summary.rows == 3


def test_deletion_requests_that_match_nothing_are_reported_with_the_day(
    settings: Settings, lake: Lake, platform: Any
) -> None:
    """Fault 16."""
    folder = platform.deliver(DAY, [], [platform.track("m1")])
    (folder / "deletions.csv").write_text(
        "kind,id,requested_at\nvideo,typo,2026-03-01T12:00:00Z\nvideo,udel ,2026-03-01T12:00:00Z\n"
    )
    summary = ingest.run(Context(settings), DAY)
    assert summary.rejected == {"unmatched_deletion": 1, "invalid_field": 1}
    assert summary.accepted + sum(summary.rejected.values()) == summary.rows == 3
    assert lake.read("deletions").height == 1
    everything = lake.read("quarantine").write_json()
    assert "typo" not in everything
    assert "udel" not in everything
    assert "deletions.csv row 2, field id: white space at the start or end" in everything
    assert "deletions.csv row 1: no video has this id" in everything


def test_unusual_ids_are_stored_unchanged(settings: Settings, lake: Lake, platform: Any) -> None:
    ids = ["../../etc", "=1+1", "'; DROP TABLE videos --", "видео😀", "שיר", "x" * 4096, "v w"]
    platform.deliver(DAY, [platform.video(name) for name in ids], [platform.track("m1")])
    ingest.run(Context(settings), DAY)
    assert sorted(lake.read("videos")["video_id"]) == sorted(ids)
    found = lake.read("videos", pl.col("video_id") == "'; DROP TABLE videos --")
    assert len(found) == 1


def test_landing_is_only_read(settings: Settings, lake: Lake, platform: Any) -> None:
    platform.deliver(DAY, [platform.video("v1")], [platform.track("m1")])

    def state() -> list[tuple[str, int, int]]:
        files = sorted(Path(settings.landing.root).rglob("*"))
        return [(str(f), f.stat().st_mtime_ns, f.stat().st_size) for f in files]

    before = state()
    ingest.run(Context(settings), DAY)
    assert state() == before
