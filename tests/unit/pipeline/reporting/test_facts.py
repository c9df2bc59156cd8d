"""The facts of a report: sample recommendations, guidance on reasons, counts of days."""

from __future__ import annotations

import datetime as dt
from typing import Any

from models.baselines import model_scorer
from pipeline.lake.schemas import TABLES
from pipeline.reporting import facts
from pipeline.training.dataset import load_dataset

DAY = dt.date(2026, 3, 3)


def test_sample_recommendations_are_the_best_tracks_of_the_model(published: Any) -> None:
    data = load_dataset(published.store, published.run_id)
    student = facts.load_student(published.store, published.run_id)
    samples = facts.sample_recommendations(published.settings, student, data)
    scorer = model_scorer(student, data.training)
    newest = max(data.test.time)
    assert len(samples) == facts.SAMPLE_VIDEOS
    ids = data.videos["video_id"].to_list()
    titles = data.music["title"].to_list()
    for sample in samples:
        video = ids.index(sample.video_id)
        (row,) = (data.test.video == video).nonzero()[0]
        scores = scorer(data.training.video[[video]])[0]
        order = sorted(range(len(titles)), key=lambda i: -scores[i])
        assert [track.title for track in sample.tracks] == [titles[i] for i in order[:5]]
        pick = int(data.test.music[row])
        assert sample.rank == 1 + sum(s >= scores[pick] for s in scores) - 1
        assert titles[pick] in sample.picked
    assert data.test.time[list(data.test.video).index(ids.index(samples[0].video_id))] == newest
    assert all(sample.picture == "" for sample in samples)


def test_every_reason_has_guidance_and_an_unknown_one_says_so() -> None:
    assert "Unknown reason" in facts.guidance("of_tomorrow")[0]
    assert facts.guidance("crashed")[1]
    assert facts.guidance("repeated")[0]


def test_days_and_rejects_are_counted_over_two_weeks(toy: Any) -> None:
    finished = dt.datetime(2026, 3, 4, tzinfo=dt.UTC)
    for day, rows in ((DAY - dt.timedelta(days=14), 9), (DAY - dt.timedelta(days=13), 5), (DAY, 4)):
        landed = {"dt": day, "fingerprint": "f", "rows": rows, "accepted": 3, "rejected": 1}
        frame = TABLES["landing_days"].frame([landed | {"finished_at": finished}])
        toy.lake.replace("landing_days", frame, {"dt": day})
        reject = {"kind": "video", "id": f"v{rows}", "dt": day, "step": "ingest"}
        reject |= {"reason": "empty", "detail": "row 1", "attempts": 0}
        toy.lake.upsert("quarantine", TABLES["quarantine"].frame([reject]))
    days = facts.days_until(toy.lake, DAY)
    assert [(day.rows, day.accepted, day.rejected, day.clips) for day in days] == [
        (5, 3, {"empty": 1}, 0),
        (4, 3, {"empty": 1}, 0),
    ]
    (rejected,) = facts.rejects_by_reason(toy.lake, DAY)
    assert (rejected.reason, rejected.rows) == ("empty", 2)
    assert rejected.examples == ("2026-03-03 video v4: row 1", "2026-02-18 video v5: row 1")


def test_speed_is_clips_over_the_wall_time_of_all_shards(toy: Any) -> None:
    ended = dt.datetime(2026, 3, 3, 2, tzinfo=dt.UTC)
    shard = {"plan": "p", "shard": 0, "clips": 6, "rejected": 1, "finished_at": ended}
    shard |= {"wall_seconds": 2.0, "cpu_seconds": 3.0}
    rows = [shard, shard | {"shard": 1, "clips": 3}]
    toy.lake.upsert("extractions", TABLES["extractions"].frame(rows))
    assert facts.extraction_speed(toy.lake) == [facts.Speed(DAY, 9, 9 / 4.0, 6.0 / 9)]
