"""Deletion requests are recorded as hashes; those that match nothing are reported once."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from pipeline.context import Context
from pipeline.errors import ManifestError
from pipeline.ingestion import ingest
from pipeline.ingestion.deletion_requests import (
    record_all_deletions,
    record_deletions,
    report_unmatched,
)
from pipeline.ingestion.manifest import BadRow, Manifest, Row, RowReason
from pipeline.ingestion.row_rules import RejectedRows
from pipeline.lake.catalog import id_hash
from pipeline.lake.codes import IdKind
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings

DAY = dt.date(2026, 3, 2)
AT = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
NOTHING = {kind: Manifest([], [], "") for kind in (IdKind.VIDEO, IdKind.MUSIC)}


def requests(*asked: tuple[str, str]) -> Manifest:
    rows: list[tuple[int, Row]] = [
        (number, {"kind": kind, "id": name, "requested_at": AT})
        for number, (kind, name) in enumerate(asked, 1)
    ]
    return Manifest(rows, [], "deletions.csv")


def unmatched(lake: Lake, manifest: Manifest, day: dt.date = DAY) -> list[str]:
    """Return the details of the requests that match nothing."""
    rejects = RejectedRows(day)
    record_deletions(lake, day, manifest)
    assert report_unmatched(lake, day, manifest, NOTHING, rejects) == len(rejects.rows)
    TABLES["quarantine"].frame(rejects.rows)
    return [str(row["detail"]) for row in rejects.rows]


def quarantine(lake: Lake, kind: str, *names: str) -> None:
    rows = RejectedRows(DAY)
    for name in names:
        rows.add(kind, name, "empty", "videos.csv row 1")
    lake.add("quarantine", TABLES["quarantine"].frame(rows.rows))


def test_requests_are_recorded_as_hashes(lake: Lake) -> None:
    record_deletions(lake, DAY, requests(("video", "v1"), ("video", "v1"), ("uploader", "v1")))
    recorded = lake.read("deletions").sort("kind").select("kind", "id_hash", "dt").rows()
    assert recorded == [(kind, id_hash(kind, "v1"), DAY) for kind in ("uploader", "video")]


def test_an_unreadable_request_is_logged(lake: Lake, caplog: pytest.LogCaptureFixture) -> None:
    bad = BadRow("deletions.csv:1", RowReason.UNREADABLE_ROW, "deletions.csv row 1: not valid CSV")
    record_deletions(lake, DAY, Manifest([], [bad], "deletions.csv"))
    assert "deletions.csv row 1: not valid CSV" in caplog.text


def deliver_request(platform: Any, day: dt.date, text: str) -> None:
    folder = platform.deliver(day, [], [])
    (folder / "deletions.csv").write_text(f"kind,id,requested_at\n{text}\n")


def test_requests_of_every_complete_day_are_recorded(
    settings: Settings, lake: Lake, platform: Any
) -> None:
    """Fault 18."""
    days = [dt.date(2020, 1, 1), dt.date(2020, 1, 2), DAY]
    for number, day in enumerate(days):
        row = f"video,v{number},2026-03-02T12:00:00Z"
        # Every day also repeats the request of the first.
        deliver_request(platform, day, f"{row}\nvideo,v0,2026-03-02T12:00:00Z")
    (settings.landing.root / "dt=2020-01-02" / "_SUCCESS").unlink()
    for _ in range(2):
        assert record_all_deletions(Context(settings)) == []
        recorded = lake.read("deletions").sort("dt").select("id_hash", "dt").rows()
        assert recorded == [(id_hash("video", f"v{n}"), days[n]) for n in (0, 2)]


def test_days_whose_requests_cannot_be_read_are_returned_and_the_others_recorded(
    settings: Settings, lake: Lake, platform: Any
) -> None:
    old, older = dt.date(2020, 1, 2), dt.date(2020, 1, 1)
    deliver_request(platform, older, "video,v1")
    deliver_request(platform, old, "video,v2,2026-03-02T12:00:00Z\nvideo,v3 ,2026-03-02T12:00:00Z")
    (platform.root / f"dt={older}" / "deletions.csv").write_bytes(b"\x1f\x8b")
    errors = record_all_deletions(Context(settings))
    assert [type(error) for error in errors] == [ManifestError, ManifestError]
    assert "compressed with gzip" in errors[0].summary
    assert "1 deletion requests cannot be read, the first: deletions.csv row 2" in errors[1].summary
    assert lake.read("deletions")["id_hash"].to_list() == [id_hash("video", "v2")]
    # Once the day is ingested, the row is in quarantine.
    (platform.root / f"dt={older}" / "deletions.csv").unlink()
    ingest.run(Context(settings), old)
    assert record_all_deletions(Context(settings)) == []


def test_only_an_id_of_the_same_kind_matches(lake: Lake) -> None:
    quarantine(lake, "video", "v1", "v2", "v2")
    quarantine(lake, "music", "m1")
    asked = requests(("video", "v1"), ("video", "v2"), ("music", "m1"), ("music", "v1"))
    assert unmatched(lake, asked) == ["deletions.csv row 4: no music has this id"]


def test_an_id_of_the_days_own_manifests_matches(lake: Lake) -> None:
    rows: list[tuple[int, Row]] = [(1, {"video_id": "v1", "uploader_id": "u1"})]
    bad = BadRow("v2", RowReason.INVALID_FIELD, "videos.csv row 2, field source: empty")
    delivered = NOTHING | {IdKind.VIDEO: Manifest(rows, [bad], "videos.csv")}
    asked = requests(("video", "v1"), ("video", "v2"), ("uploader", "u1"))
    assert report_unmatched(lake, DAY, asked, delivered, RejectedRows(DAY)) == 0


def test_an_unmatched_request_is_reported_with_its_first_day_only(lake: Lake) -> None:
    """Fault 16."""
    asked = requests(("uploader", "u9"))
    for _ in range(2):
        assert unmatched(lake, asked) == ["deletions.csv row 1: no uploader has this id"]
    assert unmatched(lake, asked, DAY + dt.timedelta(days=1)) == []


def test_an_erased_id_is_not_reported_when_its_day_is_read_again(lake: Lake) -> None:
    hashed = id_hash("uploader", "u1")
    row = {"request_hash": hashed, "item_hash": hashed, "content_key": None, "erased_at": AT}
    lake.add("erasures", TABLES["erasures"].frame([row]))
    assert unmatched(lake, requests(("uploader", "u1"))) == []


@pytest.mark.parametrize("name", ["cafe\u0301", "caf\u00e9\u200b"])
def test_an_id_that_only_looks_like_the_requested_one_is_mentioned(lake: Lake, name: str) -> None:
    quarantine(lake, "video", "caf\u00e9")
    (detail,) = unmatched(lake, requests(("video", name)))
    assert detail.endswith(
        "no video has this id; one has an id that looks the same, with other characters"
    )
