"""The invalid and unusual rows of a rendered world, checked with the pipeline's own code."""

from __future__ import annotations

import datetime as dt

import av

from features.config import Limits
from features.errors import MediaError, Reason
from features.workers.job import Job, JobKind
from features.workers.pool import MediaPool
from pipeline.errors import RowReason
from pipeline.ingestion.landing_day import LandingDay
from simulation.landing import day_folder
from simulation.render import RenderedWorld
from simulation.truth import Truth
from tests.helpers.rendered_world import file_hashes, manifest_rows


def test_reasons_are_quarantine_codes(truth: Truth) -> None:
    codes = {*Reason, *RowReason}
    reasons = {row.reason for row in truth.rejects}
    assert reasons <= codes
    assert len(reasons) == len(truth.rejects) - 2, "three files share unsupported_container"
    for date in truth.days:
        assert sum(row.day == date for row in truth.rejects) <= 4


def test_odd_files_are_rejected_as_expected(tiny: RenderedWorld, truth: Truth) -> None:
    expected = {}
    jobs = []
    for row in truth.odd:
        day = LandingDay(tiny.folder, row.day)
        name, key = ("music", "music_id") if row.kind == "music" else ("videos", "video_id")
        found = [entry for entry in manifest_rows(day, name) if entry[key] == row.id]
        path = day.resolve(str(found[-1]["media_path"]))
        if path is None:
            assert row.reason == RowReason.OUTSIDE_LANDING
            continue
        claimed = found[-1]["sha256"]
        kind = JobKind.PROBE_MUSIC if row.kind == "music" else JobKind.PROBE_VIDEO
        job = Job(f"{row.day} {row.id}", path, kind, str(claimed) if claimed else None)
        expected[job.key] = row.reason if row.reason in set(Reason) else ""
        jobs.append(job)
    with MediaPool(1, Limits(), None, None) as pool:
        seen = {
            job.key: result.reason if isinstance(result, MediaError) else ""
            for job, result in pool.run(jobs)
        }
    assert seen == expected


def test_the_truncated_file_lacks_half_of_its_frames(tiny: RenderedWorld, truth: Truth) -> None:
    cut = next(row for row in truth.odd if row.reason == "truncated")
    path = day_folder(tiny.folder, cut.day) / f"media/video/{cut.id}.mp4"
    with av.open(str(path)) as container:
        promised = container.streams.video[0].frames
        container.streams.video[0].thread_type = "NONE"
        read = 0
        try:
            for _ in container.decode(video=0):
                read += 1
        except av.error.InvalidDataError:
            assert read > 0
    assert 0.2 * promised < read < 0.8 * promised


def test_odd_rows_differ_as_described(tiny: RenderedWorld, truth: Truth) -> None:
    by_reason = {row.reason: row for row in truth.odd}
    days = {date: LandingDay(tiny.folder, date) for date in truth.days}
    rows = {date: manifest_rows(day, "videos") for date, day in days.items()}
    twice = by_reason["duplicate_id"]
    entries = [row for row in rows[twice.day] if row["video_id"] == twice.id]
    assert len({str(row["sha256"]) for row in entries}) == 2
    conflict = by_reason["id_conflict"]
    claims = {
        str(row["sha256"]) for day in rows.values() for row in day if row["video_id"] == conflict.id
    }
    assert len(claims) == 2
    future = by_reason["future_upload"]
    moment = next(row["uploaded_at"] for row in rows[future.day] if row["video_id"] == future.id)
    assert isinstance(moment, dt.datetime)
    assert moment.date() > future.day + dt.timedelta(days=2)
    known = {track.music_id for track in truth.music}
    stranger = by_reason["unknown_music"]
    music = next(row["music_id"] for row in rows[stranger.day] if row["video_id"] == stranger.id)
    assert music not in known
    twin = next(row for row in truth.odd if "same bytes" in row.why)
    content = file_hashes(tiny.folder)
    place = f"dt={twin.day}/media/video/{twin.id}.mp4"
    assert list(content.values()).count(content[place]) == 2
