"""A refused day is tried again when its files change, or if the machine was the cause."""

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
from pipeline.ingestion.refused_days import (
    clear_refused_day,
    read_refused_days,
    record_refused_day,
)
from pipeline.ingestion.row_rules import PendingRow, RejectedRows
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


def test_a_check_does_not_clear_the_refusal_of_another_delivery(
    strict: Settings, settings: Settings, lake: Lake, platform: Any
) -> None:
    platform.deliver(DAY, [], [platform.track("m1")])
    ingest.run(Context(strict), DAY)
    job = Job("m1", Path("low.ogg"), JobKind.MUSIC, lake.read("music")["content_hash"][0])
    failure = MediaError(Reason.UNDECODABLE, "noise")
    record_outcomes(Context(settings), [(job, failure)], [], MODALITIES)
    platform.deliver(DAY, [], [platform.track("m1", "noise.mp4")])
    with pytest.raises(TooManyRejectsError):
        ingest.run(Context(strict), DAY)
    accounting.check(Context(settings), DAY)
    assert [refusal.step for refusal in read_refused_days(lake)] == ["ingest"]


def test_only_the_refusal_of_an_accepted_delivery_is_cleared(lake: Lake) -> None:
    record_refused_day(lake, DAY, "refused", "ingest", ManifestError("no header"))
    clear_refused_day(lake, DAY, ["accepted"])
    assert [refusal.day for refusal in read_refused_days(lake)] == [DAY]
    clear_refused_day(lake, NEXT_DAY)
    clear_refused_day(lake, DAY, ["refused"])
    assert read_refused_days(lake) == []


def test_a_day_refused_because_of_the_machine_is_retried_until_no_attempts_are_left(
    strict: Settings, lake: Lake, platform: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"error": MediaError(Reason.TIMED_OUT, "after 60 s")}

    def probe(
        settings: Settings, landing: Any, rows: list[PendingRow], rejects: RejectedRows
    ) -> list[PendingRow]:
        for row in rows:
            rejects.reject(row, answer["error"].reason, answer["error"].detail)
        return []

    monkeypatch.setattr("pipeline.ingestion.ingest.probe_media", probe)
    platform.deliver(DAY, [], [platform.track("m1")])
    for attempt in (1, 2):
        assert due(strict, lake) == [DAY]
        with pytest.raises(TooManyRejectsError):
            ingest.run(Context(strict), DAY)
        assert lake.read("quarantine")["attempts"].to_list() == [attempt]
    assert due(strict, lake) == []
    # A new delivery starts counting again.
    platform.deliver(DAY, [], [platform.track("m2")])
    with pytest.raises(TooManyRejectsError):
        ingest.run(Context(strict), DAY)
    assert lake.read("quarantine")["attempts"].to_list() == [1]
    assert due(strict, lake) == [DAY]
    # A file that was rejected for another reason does not have the day retried.
    answer["error"] = MediaError(Reason.UNDECODABLE, "noise")
    with pytest.raises(TooManyRejectsError):
        ingest.run(Context(strict), DAY)
    assert due(strict, lake) == []


@pytest.mark.parametrize("reason", [Reason.CRASHED, Reason.TIMED_OUT, Reason.OUT_OF_MEMORY])
def test_a_day_that_check_refused_because_of_the_machine_is_retried(
    strict: Settings, lake: Lake, platform: Any, reason: Reason
) -> None:
    platform.deliver(DAY, [], [platform.track("m1")])
    ingest.run(Context(strict), DAY)
    job = Job("m1", Path("low.ogg"), JobKind.MUSIC, lake.read("music")["content_hash"][0])
    for expected in ([DAY], []):
        record_outcomes(Context(strict), [(job, MediaError(reason, "late"))], [], MODALITIES)
        with pytest.raises(TooManyRejectsError, match="1 of 1 rows rejected"):
            accounting.check(Context(strict), DAY)
        assert due(strict, lake) == expected


def test_an_unreadable_manifest_is_not_retried_because_of_earlier_files(
    strict: Settings, settings: Settings, lake: Lake, platform: Any
) -> None:
    folder = platform.deliver(DAY, [], [platform.track("m1")])
    ingest.run(Context(settings), DAY)
    job = Job("m1", Path("low.ogg"), JobKind.MUSIC, lake.read("music")["content_hash"][0])
    error = MediaError(Reason.TIMED_OUT, "late")
    record_outcomes(Context(settings), [(job, error)], [], MODALITIES)
    accounting.check(Context(settings), DAY)
    assert due(settings, lake) == [DAY]
    # The day is then delivered again, with a manifest that cannot be read.
    (folder / "videos.csv").write_bytes(b"\x00" * 100)
    with pytest.raises(ManifestError):
        ingest.run(Context(settings), DAY)
    assert due(settings, lake) == []
    # And again, with a file that is missing: only that counts.
    platform.deliver(DAY, [platform.video("v1", "absent.mp4")], [platform.track("m1")])
    with pytest.raises(TooManyRejectsError):
        ingest.run(Context(strict), DAY)
    assert due(strict, lake) == []
