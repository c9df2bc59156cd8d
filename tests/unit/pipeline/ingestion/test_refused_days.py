"""A refused day is tried again only when its files change, or by hand."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from features import Job, JobKind, MediaError, Reason
from pipeline.context import Context
from pipeline.errors import ManifestError, TooManyRejectsError
from pipeline.extraction import accounting
from pipeline.extraction.clips import MODALITIES
from pipeline.extraction.failures import record_outcomes
from pipeline.ingestion import delivery, ingest
from pipeline.ingestion.refused_days import read_refused_days
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings

DAY = dt.date(2026, 3, 1)
NEXT_DAY = dt.date(2026, 3, 2)


@pytest.fixture
def strict(settings: Settings) -> Settings:
    landing = settings.landing.model_copy(update={"reject_share": 0.3})
    return settings.model_copy(update={"landing": landing})


def due(settings: Settings, lake: Lake) -> list[dt.date]:
    return list(delivery.unfinished_days(Context(settings), DAY, NEXT_DAY))


def test_a_day_with_too_many_rejects_needs_a_run_when_its_files_change(
    strict: Settings, lake: Lake, platform: Any
) -> None:
    bad = platform.video("bad", media_path="media/absent.mp4")
    platform.deliver(DAY, [bad], [platform.track("m1")])
    assert due(strict, lake) == [DAY]
    with pytest.raises(TooManyRejectsError):
        ingest.run(Context(strict), DAY)
    (refusal,) = read_refused_days(lake)
    assert (refusal.day, refusal.step, refusal.reason) == (DAY, "ingest", "TooManyRejectsError")
    assert "1 of 2 rows rejected" in refusal.detail
    assert due(strict, lake) == []
    # By hand it can be tried at any time.
    with pytest.raises(TooManyRejectsError):
        ingest.run(Context(strict), DAY)
    platform.deliver(DAY, [platform.video("good")], [platform.track("m1")])
    assert due(strict, lake) == [DAY]
    ingest.run(Context(strict), DAY)
    assert read_refused_days(lake) == []


def test_an_unreadable_manifest_does_not_affect_other_days(
    settings: Settings, lake: Lake, platform: Any, account: Any
) -> None:
    broken = platform.deliver(DAY, [], [platform.track("m1")])
    (broken / "videos.csv").write_bytes(b"\x00" * 100)
    (broken / "deletions.jsonl").write_text(
        '{"kind": "video", "id": "gone", "requested_at": "2026-03-01T12:00:00Z"}\n'
    )
    platform.deliver(NEXT_DAY, [], [platform.track("m1")])
    assert due(settings, lake) == [DAY, NEXT_DAY]
    assert ingest.run(Context(settings), NEXT_DAY).accepted == 1
    # The deletion request was recorded anyway.
    assert lake.read("deletions").height == 1
    # Its own run has not failed yet.
    assert read_refused_days(lake) == []
    account(NEXT_DAY)
    assert due(settings, lake) == [DAY]
    with pytest.raises(ManifestError, match=r"dt=2026-03-01/videos\.csv"):
        ingest.run(Context(settings), DAY)
    assert due(settings, lake) == []
    version = lake.version("quarantine")
    ingest.run(Context(settings), NEXT_DAY)
    assert lake.version("quarantine") == version


def test_a_file_that_arrives_during_the_refusal_is_a_change(
    strict: Settings, lake: Lake, platform: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = platform.video("v1", media_path="media/absent.mp4")
    folder: Path = platform.deliver(DAY, [absent], [platform.track("m1")])

    def late(*_: Any, **__: Any) -> dict[str, list[Any]]:
        (folder / "media" / "absent.mp4").write_bytes(b"here it is")
        raise TooManyRejectsError("as it was before")

    monkeypatch.setattr("pipeline.ingestion.ingest._apply_rules", late)
    with pytest.raises(TooManyRejectsError):
        ingest.run(Context(strict), DAY)
    assert due(strict, lake) == [DAY]


def test_a_day_that_check_refused_does_not_need_a_run(
    strict: Settings, settings: Settings, lake: Lake, platform: Any
) -> None:
    platform.deliver(DAY, [], [platform.track("m1")])
    ingest.run(Context(strict), DAY)
    content_hash = lake.read("music")["content_hash"][0]
    job = Job("m1", Path("low.ogg"), JobKind.MUSIC, content_hash)
    record_outcomes(
        Context(settings), [(job, MediaError(Reason.UNDECODABLE, "noise"))], [], MODALITIES
    )
    with pytest.raises(TooManyRejectsError, match="1 of 1 rows rejected"):
        accounting.check(Context(strict), DAY)
    (refusal,) = read_refused_days(lake)
    assert (refusal.step, refusal.fingerprint) == ("check", lake.read("landing_days")[0, 1])
    assert due(strict, lake) == []
    # Somebody raises the share and clears the task.
    assert accounting.check(Context(settings), DAY).rejected == {"undecodable": 1}
    assert read_refused_days(lake) == []
    assert due(settings, lake) == []
