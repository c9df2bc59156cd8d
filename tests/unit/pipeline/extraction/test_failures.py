"""Failures are recorded with a reason, and tried again only if they may pass."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import polars as pl
import pytest

from features import Job, JobKind, MediaError, MediaPool, Reason
from pipeline.context import Context
from pipeline.errors import LostRowsError
from pipeline.extraction import accounting, extract, shards
from pipeline.extraction.clips import MODALITIES
from pipeline.extraction.failures import _FOLDER_REASONS, record_outcomes
from pipeline.ingestion import ingest
from pipeline.ingestion.delivery import days_to_retry
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings

DAY = dt.date(2026, 3, 1)
MAY_PASS = (Reason.CRASHED, Reason.TIMED_OUT, Reason.OUT_OF_MEMORY)


class Decoder:
    """Replaces the pool: fails every file with `reason`, and counts the jobs."""

    def __init__(self) -> None:
        self.reason = Reason.CRASHED
        self.tried: Counter[str] = Counter()

    def run(self, _: MediaPool, jobs: Iterable[Job]) -> Iterator[tuple[Job, MediaError]]:
        for job in jobs:
            self.tried[job.kind] += 1
            yield job, MediaError(self.reason, f"{job.path.name} makes the decoder fail")


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch) -> Decoder:
    decoder = Decoder()
    monkeypatch.setattr(MediaPool, "run", lambda pool, jobs: decoder.run(pool, jobs))
    return decoder


@pytest.fixture
def shared_files(settings: Settings, lake: Lake, platform: Any) -> Any:
    """Ingest the rows of `catalogue` from real files."""
    track = platform.track("m1", "music_video.mp4")
    pgc = platform.video("p1", "music_video.mp4", source="pgc", uploader_id="", music_id="")
    platform.deliver(
        DAY, [platform.video("v1"), platform.video("v2"), pgc], [platform.track("m0"), track]
    )
    ingest.run(Context(settings), DAY)
    return platform


def night(settings: Settings, lake: Lake) -> None:
    for shard in shards.plan(Context(settings), [DAY]):
        extract.run(Context(settings), shard.plan, shard.shard)


def let_a_day_pass(lake: Lake) -> None:
    rows = lake.read("failures").with_columns(pl.col("failed_at") - dt.timedelta(days=1))
    lake.upsert("failures", rows)


@pytest.mark.usefixtures("catalogue")
@pytest.mark.parametrize("reason", MAY_PASS)
def test_a_failure_of_the_machine_is_tried_once_more_on_a_later_night(
    reason: Reason, settings: Settings, lake: Lake, decoder: Decoder
) -> None:
    decoder.reason = reason
    night(settings, lake)
    once = Counter(decoder.tried)
    night(settings, lake)
    assert decoder.tried == once
    assert accounting.check(Context(settings), DAY).rejected == {reason: 5}
    assert days_to_retry(settings, lake) == {DAY}
    let_a_day_pass(lake)
    night(settings, lake)
    assert decoder.tried == once + once
    accounting.check(Context(settings), DAY)
    assert set(lake.read("quarantine")["attempts"]) == {2}
    assert days_to_retry(settings, lake) == set()
    let_a_day_pass(lake)
    night(settings, lake)
    assert decoder.tried == once + once


@pytest.mark.usefixtures("catalogue")
@pytest.mark.parametrize("reason", sorted(set(Reason) - set(MAY_PASS) - set(_FOLDER_REASONS)))
def test_a_failure_of_the_file_is_not_tried_again(
    reason: Reason, settings: Settings, lake: Lake, decoder: Decoder
) -> None:
    decoder.reason = reason
    night(settings, lake)
    once = Counter(decoder.tried)
    let_a_day_pass(lake)
    night(settings, lake)
    assert decoder.tried == once
    accounting.check(Context(settings), DAY)
    assert days_to_retry(settings, lake) == set()


@pytest.mark.usefixtures("catalogue")
def test_a_retried_shard_does_not_repeat_its_failures(
    settings: Settings, lake: Lake, decoder: Decoder
) -> None:
    (shard,) = shards.plan(Context(settings), [DAY])
    extract.run(Context(settings), shard.plan, shard.shard)
    once = Counter(decoder.tried)
    again = extract.run(Context(settings), shard.plan, shard.shard)
    assert (again.rejected, again.skipped) == (0, 4)
    assert decoder.tried == once
    assert set(lake.read("failures")["attempts"]) == {1}


@pytest.mark.usefixtures("catalogue")
@pytest.mark.parametrize("change", ["extractor", "limits"])
def test_a_new_extractor_or_new_limits_try_again(
    change: str, settings: Settings, lake: Lake, decoder: Decoder
) -> None:
    decoder.reason = Reason.TOO_LONG
    night(settings, lake)
    decoder.tried.clear()
    if change == "limits":
        limits = settings.limits.model_copy(update={"seconds": settings.limits.seconds + 1})
        changed = settings.model_copy(update={"limits": limits})
        tried = {"video": 1, "music": 2, "segments": 1}
    else:
        visual = settings.visual.model_copy(update={"frames": 3})
        changed = settings.model_copy(update={"visual": visual})
        tried = {"video": 1, "segments": 1}
        with pytest.raises(LostRowsError):
            accounting.check(Context(changed), DAY)
    night(changed, lake)
    assert decoder.tried == tried
    accounting.check(Context(changed), DAY)
    videos = lake.read("quarantine", pl.col("id").is_in(["v1", "v2"]))
    assert videos["attempts"].to_list() == [1, 1]


def test_rows_of_one_file_share_its_failure_but_jobs_do_not(
    settings: Settings, lake: Lake, shared_files: Any
) -> None:
    night(settings, lake)
    assert accounting.check(Context(settings), DAY).rejected == {}
    lake.delete("visual_features", "true")
    videos = lake.read("videos", pl.col("video_id") == "v1")
    job = Job("x", shared_files.root / "red.mp4", JobKind.VIDEO, videos["content_hash"][0])
    record_outcomes(
        Context(settings), [(job, MediaError(Reason.UNDECODABLE, "red.mp4 is odd"))], [], MODALITIES
    )
    assert lake.read("failures")["detail"].to_list() == ["the file is odd"]
    # The music video has another job: its failure is not recorded.
    with pytest.raises(LostRowsError, match="1 rows have neither"):
        accounting.check(Context(settings), DAY)
    night(settings, lake)
    assert accounting.check(Context(settings), DAY).rejected == {"undecodable": 2}
    rows = lake.read("quarantine").sort("id")
    assert rows["id"].to_list() == ["v1", "v2"]
    assert all(": the file is odd" in detail for detail in rows["detail"])


@pytest.mark.usefixtures("shared_files")
def test_a_success_deletes_the_earlier_failure(
    settings: Settings, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = Decoder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MediaPool, "run", lambda pool, jobs: decoder.run(pool, jobs))
        night(settings, lake)
    accounting.check(Context(settings), DAY)
    assert len(lake.read("failures")) == 5
    let_a_day_pass(lake)
    night(settings, lake)
    assert accounting.check(Context(settings), DAY).rejected == {}
    assert lake.read("failures").is_empty()
    assert lake.read("quarantine").is_empty()


@pytest.mark.usefixtures("catalogue")
@pytest.mark.parametrize("reason", _FOLDER_REASONS)
def test_a_file_missing_from_the_folder_is_tried_again_after_a_new_delivery(
    reason: Reason,
    settings: Settings,
    lake: Lake,
    decoder: Decoder,
    mark_ingested: Callable[[], None],
) -> None:
    decoder.reason = reason
    for _ in range(4):
        night(settings, lake)
    assert decoder.tried == {"video": 2, "music": 4, "segments": 2}
    mark_ingested()
    night(settings, lake)
    assert decoder.tried == {"video": 3, "music": 6, "segments": 3}


def test_a_symbolic_link_rejects_only_its_own_clip(
    settings: Settings, lake: Lake, shared_files: Any
) -> None:
    media = settings.landing.root / f"dt={DAY}" / lake.read("videos")["media_path"][0]
    aside = media.with_name("aside")
    media.rename(aside)
    media.symlink_to(aside)
    night(settings, lake)
    summary = accounting.check(Context(settings), DAY)
    assert summary.rejected
    assert set(summary.rejected) == {"unreadable"}
    assert summary.clips > 0


def test_failures_contain_no_ids_or_paths() -> None:
    assert not {"id", "media_path"} & set(TABLES["failures"].columns)
