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
from pipeline.ingestion import delivery, ingest
from pipeline.ingestion.ingest import segment_rows
from pipeline.ingestion.row_rules import PendingRow, RejectedRows
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings
from pipeline.settings.sections import ExtractSettings, LandingSettings

DAY = dt.date(2026, 3, 1)
NEXT_DAY = dt.date(2026, 3, 2)


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


def test_cuts_music_videos_into_segments_and_leaves_out_a_short_rest(
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


def test_segments_lie_where_there_are_picture_and_sound() -> None:
    info = MediaInfo("0" * 64, 9, 30.0, (1.5, 15.0), 64, 48, 25.0, True, True, "mp4", "h264", "aac")
    video = PendingRow("videos", "p1", {}, "videos.csv, row 1", info)
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


def test_names_the_row_that_is_not_valid_csv(settings: Settings, lake: Lake, platform: Any) -> None:
    folder = platform.deliver(DAY, [platform.video("v1")], [platform.track("m1")])
    with (folder / "videos.csv").open("a") as stream:
        stream.write("only,three,cells\n")
    ingest.run(Context(settings), DAY)
    row = lake.read("quarantine").row(0, named=True)
    assert (row["id"], row["reason"]) == ("videos.csv:2", "unreadable_row")
    assert "3 cells under 7 columns" in row["detail"]


def test_first_of_two_rows_with_one_id_counts(
    settings: Settings, lake: Lake, platform: Any
) -> None:
    rows = [platform.video("v1"), platform.video("v1", "blue.webm"), platform.video("v1")]
    platform.deliver(DAY, rows, [platform.track("m1")])
    summary = ingest.run(Context(settings), DAY)
    assert lake.read("videos")["media_path"].to_list() == ["media/red.mp4"]
    assert summary.rejected == {"duplicate_id": 2}


def test_every_row_of_one_id_has_a_place_in_quarantine() -> None:
    rejects = RejectedRows(DAY)
    # The second of these is what the third would be called.
    for name in ("v1", "v1 (2)", "v1", "v1", "v1 (2)"):
        rejects.add("video", name, "empty", "")
    rejects.add("music", "v1", "empty", "")
    frame = TABLES["quarantine"].frame(rejects.rows)
    names = ["v1", "v1 (2)", "v1 (3)", "v1 (4)", "v1 (2) (2)", "v1"]
    assert frame["id"].to_list() == names


def test_id_belongs_to_its_earliest_day(settings: Settings, lake: Lake, platform: Any) -> None:
    platform.deliver(DAY, [platform.video("v1"), platform.video("v2")], [platform.track("m1")])
    later = [platform.video("v1"), platform.video("v2", "blue.webm"), platform.video("v3")]
    platform.deliver(NEXT_DAY, later, [])
    ingest.run(Context(settings), DAY)
    summary = ingest.run(Context(settings), NEXT_DAY)
    assert reasons(lake) == {"v1": "repeated", "v2": "id_conflict"}
    assert summary.accepted == 1


def test_repeating_an_ingest_changes_nothing(settings: Settings, lake: Lake, platform: Any) -> None:
    folder = platform.deliver(DAY, [platform.video("v1")], [platform.track("m1")])
    ingest.run(Context(settings), DAY)
    before = lake.read("videos"), lake.version("videos")
    assert ingest.run(Context(settings), DAY).unchanged
    assert lake.version("videos") == before[1]
    os.utime(folder / "videos.csv", (1, 1))
    assert not ingest.run(Context(settings), DAY).unchanged
    assert lake.read("videos").equals(before[0])


def test_changed_day_is_found_and_replaced(
    settings: Settings, lake: Lake, platform: Any, account: Any
) -> None:
    platform.deliver(DAY, [platform.video("v1")], [platform.track("m1")])
    assert list(delivery.unfinished_days(Context(settings), DAY, NEXT_DAY)) == [DAY]
    ingest.run(Context(settings), DAY)
    account(DAY)
    assert list(delivery.unfinished_days(Context(settings), DAY, NEXT_DAY)) == []
    platform.deliver(DAY, [platform.video("v2")], [platform.track("m1")])
    assert list(delivery.unfinished_days(Context(settings), DAY, NEXT_DAY)) == [DAY]
    ingest.run(Context(settings), DAY)
    assert lake.read("videos")["video_id"].to_list() == ["v2"]
    # Read, but not accounted for since.
    assert list(delivery.unfinished_days(Context(settings), DAY, NEXT_DAY)) == [DAY]


def test_earlier_day_that_nobody_read_is_read_first(
    settings: Settings, lake: Lake, platform: Any
) -> None:
    platform.deliver(DAY, [], [platform.track("m1")])
    platform.deliver(NEXT_DAY, [platform.video("v1")], [])
    assert ingest.run(Context(settings), NEXT_DAY).accepted == 1
    assert ingest.run(Context(settings), DAY).unchanged


def test_failing_earlier_day_does_not_fail_this_one(
    settings: Settings, lake: Lake, platform: Any
) -> None:
    broken = platform.deliver(DAY, [], [])
    (broken / "music.csv").write_text("nonsense\n")
    platform.deliver(NEXT_DAY, [platform.video("v1")], [platform.track("m1")])
    assert ingest.run(Context(settings), NEXT_DAY).accepted == 2
    assert lake.read("landing_days")["dt"].to_list() == [NEXT_DAY]


def test_track_that_comes_late_to_an_earlier_day_reopens_the_day_that_named_it(
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
    assert NEXT_DAY in delivery.unfinished_days(Context(settings), DAY, NEXT_DAY)
    ingest.run(Context(settings), NEXT_DAY)
    assert reasons(lake) == {}
    assert lake.read("videos")["video_id"].to_list() == ["v1"]


def test_incomplete_day_names_the_missing_file(
    settings: Settings, lake: Lake, platform: Any
) -> None:
    folder = platform.deliver(DAY, [], [])
    (folder / "_SUCCESS").unlink()
    with pytest.raises(DayNotReadyError, match=r"dt=2026-03-01/_SUCCESS"):
        ingest.run(Context(settings), DAY)


def test_missing_column_fails_the_day_and_names_it(
    settings: Settings, lake: Lake, platform: Any
) -> None:
    folder = platform.deliver(DAY, [], [])
    platform.write(folder / "videos.csv", ["video_id", "colour"], [{"video_id": "v1"}])
    with pytest.raises(ManifestError, match=r"videos.csv.*source.*colour"):
        ingest.run(Context(settings), DAY)


def test_two_formats_of_one_manifest_fail_the_day(
    settings: Settings, lake: Lake, platform: Any
) -> None:
    folder = platform.deliver(DAY, [], [])
    (folder / "videos.jsonl").touch()
    with pytest.raises(ManifestError, match="one format only"):
        ingest.run(Context(settings), DAY)


def test_too_many_rejects_fail_the_day_after_saying_why(
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


def test_deleted_uploader_may_not_come_back(settings: Settings, lake: Lake, platform: Any) -> None:
    folder = platform.deliver(DAY, [platform.video("v1")], [platform.track("m1")])
    (folder / "deletions.jsonl").write_text(
        '{"kind": "uploader", "id": "u1", "requested_at": "2026-03-01T12:00:00Z"}\n'
    )
    summary = ingest.run(Context(settings), DAY)
    assert summary.rejected == {"deleted": 1}
    everything = lake.read("quarantine").write_json() + lake.read("deletions").write_json()
    assert "u1" not in everything
    assert "v1" not in everything


def test_a_deletion_that_cannot_be_read_is_a_row_of_the_day(
    settings: Settings, lake: Lake, platform: Any
) -> None:
    folder = platform.deliver(DAY, [], [platform.track("m1")])
    (folder / "deletions.jsonl").write_text('{"kind": "uploader", "id": "u1"}\n{"kin')
    summary = ingest.run(Context(settings), DAY)
    assert summary.rejected == {"invalid_field": 1, "unreadable_row": 1}
    assert summary.accepted + sum(summary.rejected.values()) == summary.rows == 3


def test_ids_that_look_like_anything_are_kept_as_they_are(
    settings: Settings, lake: Lake, platform: Any
) -> None:
    ids = ["../../etc", "=1+1", "'; DROP TABLE videos --", "видео😀", "שיר", "x" * 4096, " v "]
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
