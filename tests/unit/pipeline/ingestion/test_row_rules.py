"""The rules for manifest rows, one by one; test_ingest.py has them in order."""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import replace

import polars as pl
import pytest

from features import MediaInfo
from pipeline.errors import TooManyRejectsError
from pipeline.ingestion import row_rules
from pipeline.ingestion.manifest import BadRow, Manifest, RowReason
from pipeline.ingestion.row_rules import PendingRow, RejectedRows
from pipeline.lake.catalog import id_hash
from pipeline.lake.codes import IdKind
from pipeline.lake.schemas import TABLES
from pipeline.settings.load import Settings

DAY = dt.date(2026, 3, 1)
INFO = MediaInfo("0" * 64, 9, 1.0, (0.0, 1.0), 64, 48, 5.0, True, True, "mp4", "h264", "aac")


@pytest.fixture
def rejects() -> RejectedRows:
    return RejectedRows(DAY)


def video(name: str, **fields: object) -> PendingRow:
    row = {"uploader_id": "u1", "music_id": "m1", "source": "ugc"} | fields
    return PendingRow(IdKind.VIDEO, name, row, f"videos.csv row {name[-1]}", INFO)


def found(rejects: RejectedRows) -> dict[object, object]:
    return {row["id"]: row["reason"] for row in rejects.rows}


def test_every_rejected_row_of_one_id_has_its_own_id_in_quarantine() -> None:
    rejects = RejectedRows(DAY)
    # The second name is the one that the third row would get.
    for name in ("v1", "v1 (2)", "v1", "v1", "v1 (2)"):
        rejects.add("video", name, "empty", "")
    rejects.add("music", "v1", "empty", "")
    frame = TABLES["quarantine"].frame(rejects.rows)
    names = ["v1", "v1 (2)", "v1 (3)", "v1 (4)", "v1 (2) (2)", "v1"]
    assert frame["id"].to_list() == names


def test_many_rows_of_one_id_are_numbered_in_linear_time(rejects: RejectedRows) -> None:
    """Fault 25."""
    started = time.process_time()
    for _ in range(30_000):
        rejects.add("video", "v1", "empty", "")
    assert rejects.rows[-1]["id"] == "v1 (30000)"
    # About 0.1 s; with a search from the start for each row, more than a minute.
    assert time.process_time() - started < 10


def test_an_earlier_attempt_is_counted() -> None:
    rejects = RejectedRows(DAY, {("video", "v1"): 2})
    rejects.reject(video("v1"), "timed_out", "after 60 s")
    rejects.reject(video("v2"), "timed_out", "after 60 s")
    assert [row["attempts"] for row in rejects.rows] == [3, 1]
    assert rejects.rows[0]["detail"] == "videos.csv row 1: after 60 s"
    assert rejects.rows[0]["content_hash"] == INFO.content_hash


def test_a_rejected_row_keeps_its_uploader(rejects: RejectedRows) -> None:
    rejects.reject(video("v1", uploader_id="u7"), "missing", "")
    rejects.reject(video("v2", uploader_id=None), "missing", "")
    rejects.reject(PendingRow(IdKind.MUSIC, "m1", {}, "music.csv row 1"), "missing", "")
    rejects.add_bad("video", [BadRow("v3", RowReason.INVALID_FIELD, "", "u8")])
    frame = TABLES["quarantine"].frame(rejects.rows)
    assert frame["uploader_id"].to_list() == ["u7", None, None, "u8"]


def test_the_first_row_of_an_id_is_kept_and_unreadable_rows_are_rejected(
    rejects: RejectedRows,
) -> None:
    rows = [(n + 1, {"music_id": name}) for n, name in enumerate(["m1", "m2", "m1"])]
    bad = BadRow("music.csv:4", RowReason.UNREADABLE_ROW, "music.csv row 4: not valid CSV")
    kept = row_rules.reject_duplicate_ids(IdKind.MUSIC, Manifest(rows, [bad], "music.csv"), rejects)
    assert [(row.id, row.place) for row in kept] == [
        ("m1", "music.csv row 1"),
        ("m2", "music.csv row 2"),
    ]
    assert found(rejects) == {"music.csv:4": "unreadable_row", "m1": "duplicate_id"}


def test_a_deleted_id_or_uploader_is_rejected_without_its_id() -> None:
    rows = [video("v1"), video("v2", uploader_id="u2"), video("v3", uploader_id="u3")]
    deleted = [(IdKind.VIDEO, "v1"), (IdKind.UPLOADER, "u2"), (IdKind.MUSIC, "v3")]
    rejects = RejectedRows(DAY, deleted={id_hash(kind, name) for kind, name in deleted})
    kept = row_rules.reject_deleted(rows, rejects)
    assert [row.id for row in kept] == ["v3"]
    assert list(found(rejects).values()) == ["deleted", "deleted"]
    assert "v1" not in str(rejects.rows)


@pytest.mark.parametrize(
    ("uploaded_at", "reason"),
    [
        ("2026-03-02T23:59:59", None),
        ("2026-03-03T00:00:01", "future_upload"),
        ("1971-01-01T00:00:00", None),
        ("1970-12-31T23:59:59", "invalid_field"),
    ],
)
def test_an_upload_time_is_at_most_a_day_after_its_landing_day(
    settings: Settings, rejects: RejectedRows, uploaded_at: str, reason: str | None
) -> None:
    row = video("v1", uploaded_at=dt.datetime.fromisoformat(f"{uploaded_at}+00:00"))
    kept = row_rules.reject_implausible_times(settings, DAY, [row], rejects)
    assert kept == ([] if reason else [row])
    assert found(rejects) == ({"v1": reason} if reason else {})


def test_an_id_of_an_earlier_day_is_rejected(rejects: RejectedRows) -> None:
    owners = {"v1": (INFO.content_hash, DAY), "v2": ("f" * 64, DAY)}
    rows = [video("v1"), video("v2"), video("v3")]
    assert row_rules.reject_owned_ids(owners, rows, rejects) == rows[2:]
    assert found(rejects) == {"v1": "repeated", "v2": "id_conflict"}


def test_a_video_needs_a_known_track_or_none(rejects: RejectedRows) -> None:
    rows = [video("v1"), video("v2", music_id="m2"), video("v3", music_id=None)]
    kept = row_rules.reject_unknown_music({"m1"}, rows, rejects)
    assert [row.id for row in kept] == ["v1", "v3"]
    assert found(rejects) == {"v2": "unknown_music"}


def test_a_row_without_a_probe_has_no_hash_in_quarantine(rejects: RejectedRows) -> None:
    rejects.reject(replace(video("v1"), info=None), "missing", "v1.mp4 does not exist")
    assert rejects.rows[0]["content_hash"] is None


def test_only_a_share_above_the_limit_fails_the_day() -> None:
    rejected = pl.DataFrame({"reason": ["missing", "missing", "empty"]})
    row_rules.refuse_too_many_rejects(rejected, 12, 0.25, "dt=2026-03-01")
    row_rules.refuse_too_many_rejects(rejected.clear(), 0, 0.0, "dt=2026-03-01")
    with pytest.raises(TooManyRejectsError, match=r"3 of 11 .*25%.*'missing': 2.*\(dt=2026-03-01"):
        row_rules.refuse_too_many_rejects(rejected, 11, 0.25, "dt=2026-03-01")


def test_repeated_and_deleted_rows_count_neither_as_rows_nor_as_rejected() -> None:
    """Fault 22."""
    rejected = pl.DataFrame({"reason": ["missing", "empty", "repeated", "repeated", "deleted"]})
    row_rules.refuse_too_many_rejects(rejected, 11, 0.25, "dt=2026-03-01")
    with pytest.raises(TooManyRejectsError, match=r"2 of 7 rows rejected, 25% allowed"):
        row_rules.refuse_too_many_rejects(rejected, 10, 0.25, "dt=2026-03-01")
    only_repeated = pl.DataFrame({"reason": ["repeated", "deleted"]})
    row_rules.refuse_too_many_rejects(only_repeated, 2, 0.0, "dt=2026-03-01")
