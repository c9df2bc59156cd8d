"""What is sent to a metrics system: values worked out by hand, and no name without a meaning."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import pytest

from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.reporting.metrics import METRICS, newest_upload, of_day, of_run

INGESTED = {
    "day": "2026-03-01",
    "unchanged": False,
    "rows": 12,
    "accepted": 9,
    "rejected": {"missing": 2, "repeated": 1},
}
CHECKED = {"day": "2026-03-01", "clips": 7, "rejected": {"undecodable": 1, "missing": 1}}
SHARDS = [
    {"extracted": 4, "rejected": 1, "wall_seconds": 2.0, "cpu_seconds": 3.0},
    {"extracted": 2, "rejected": 1, "wall_seconds": 1.0, "cpu_seconds": 1.5},
]
FIGURES = {"recall@10": 0.4, "ndcg@10": 0.3, "genre_kl": 0.2, "coverage": 0.5}
RUN = {
    "evaluation_set": {"rows": 80, "k": 10},
    "contenders": {"challenger": FIGURES, "popularity": FIGURES | {"recall@10": 0.1}},
}
DECISION = {
    "decision": "refuse",
    "verdicts": [{"rule": "a", "passed": True}, {"rule": "b", "passed": False}],
}


def documented(name: str) -> bool:
    return any(re.fullmatch(re.sub("<[a-z]+>", "[a-z0-9_]+", known), name) for known in METRICS)


def upload(lake: Lake, at: dt.datetime) -> None:
    row: dict[str, Any] = dict.fromkeys(("video_id", "uploader_id", "music_id", "media_path"), "x")
    row |= {"source": "ugc", "uploaded_at": at, "dt": at.date(), "content_hash": "0" * 64}
    row |= {"duration": 1.0, "width": 2, "height": 2, "fps": 1.0, "ingested_at": at}
    lake.replace("videos", TABLES["videos"].frame([row]), {"dt": at.date()})


def test_a_days_metrics_add_up(lake: Lake) -> None:
    newest = dt.datetime.now(dt.UTC) - dt.timedelta(hours=5)
    upload(lake, newest - dt.timedelta(days=1))
    upload(lake, newest)
    values = of_day(lake, INGESTED, CHECKED, SHARDS, 2)
    assert values.pop("debcm.lag_hours") == pytest.approx(5, abs=0.02)
    assert values == {
        "debcm.rows": 12.0,
        "debcm.accepted": 9.0,
        "debcm.rejects": 5.0,
        "debcm.rejects.missing": 3.0,
        "debcm.rejects.repeated": 1.0,
        "debcm.rejects.undecodable": 1.0,
        "debcm.clips": 7.0,
        "debcm.extracted": 6.0,
        "debcm.clips_per_second": 2.0,
        "debcm.extract_cpu_seconds": 4.5,
        "debcm.missed_days": 2.0,
    }


def test_a_night_without_work_has_no_speed_and_an_empty_lake_no_lag(lake: Lake) -> None:
    assert newest_upload(lake) is None
    values = of_day(lake, INGESTED, CHECKED, [], 0)
    assert values["debcm.extracted"] == 0
    assert not {"debcm.clips_per_second", "debcm.lag_hours"} & set(values)


def test_a_runs_metrics_are_those_of_its_document() -> None:
    values = of_run(RUN, DECISION)
    assert values["debcm.gate.published"] == 0.0
    assert values["debcm.gate.broken_rules"] == 1.0
    assert values["debcm.test_rows"] == 80.0
    assert values["debcm.recall.popularity"] == 0.1
    assert values["debcm.genre_kl.challenger"] == 0.2
    assert of_run(RUN, DECISION | {"decision": "forced"})["debcm.gate.published"] == 1.0


def test_every_name_that_is_sent_is_documented(lake: Lake) -> None:
    upload(lake, dt.datetime.now(dt.UTC))
    sent = set(of_day(lake, INGESTED, CHECKED, SHARDS, 2)) | set(of_run(RUN, DECISION))
    assert [name for name in sent if not documented(name)] == []
    patterns = [re.sub("<[a-z]+>", "[a-z0-9_]+", known) for known in METRICS]
    assert [known for known in patterns if not any(re.fullmatch(known, n) for n in sent)] == []
