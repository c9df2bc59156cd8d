"""A backfill plans the wanted days and modalities, and is dry unless told otherwise."""

from __future__ import annotations

import datetime as dt
import logging
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from features.config import AudioConfig, PictureEncoder, VisualConfig
from pipeline import steps
from pipeline.cli.main import app
from pipeline.context import Context
from pipeline.extraction import backfill, extract
from pipeline.extraction.backfill import BackfillError
from pipeline.extraction.clips import Modality, extractors
from pipeline.ingestion import ingest
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings, SettingsError
from pipeline.settings.sections import CandidateExtractor

DAY = dt.date(2026, 3, 1)
NEXT_DAY = dt.date(2026, 3, 2)
CANDIDATE = CandidateExtractor(
    visual=VisualConfig(frames=2, blocks=("light",)), audio=AudioConfig(blocks=("timbre",))
)


@pytest.fixture
def two_days(settings: Settings, lake: Lake, platform: Any) -> Settings:
    """Ingest a day of three files and a day of one; the settings have a candidate extractor."""
    professional = {"source": "pgc", "uploader_id": "", "music_id": ""}
    videos = [platform.video("v1"), platform.video("p1", "music_video.mp4", **professional)]
    platform.deliver(DAY, videos, [platform.track("m1")])
    platform.deliver(NEXT_DAY, [platform.video("v2", "blue.webm")], [])
    for day in (DAY, NEXT_DAY):
        ingest.run(Context(settings), day)
    return settings.model_copy(update={"candidates": {"fewer": CANDIDATE}})


def planned_clips(settings: Settings, *arguments: Any) -> int:
    return sum(shard.clips for shard in backfill.plan(Context(settings), *arguments))


def test_a_plan_covers_the_wanted_days_and_modalities(two_days: Settings, lake: Lake) -> None:
    assert planned_clips(two_days, DAY, NEXT_DAY, "current", "both") == 4
    assert planned_clips(two_days, DAY, DAY, "current", "both") == 3
    assert planned_clips(two_days, NEXT_DAY, NEXT_DAY, "current", "both") == 1
    assert planned_clips(two_days, DAY, dt.date(2030, 1, 1), "fewer", "visual") == 3
    assert planned_clips(two_days, DAY, NEXT_DAY, "fewer", "audio") == 2


def test_invalid_parameters_plan_nothing(two_days: Settings, lake: Lake) -> None:
    early = DAY - dt.timedelta(days=9)
    for first, last, extractor, kind, expected in (
        (NEXT_DAY, DAY, "current", "both", "the last day is before the first"),
        (early, early, "current", "both", "no day in the range was ingested"),
        (DAY, DAY, "current", "smell", "kind must be one of both, visual, audio"),
    ):
        with pytest.raises(BackfillError, match=expected):
            backfill.plan(Context(two_days), first, last, extractor, kind)
    with pytest.raises(SettingsError, match="no extractor 'newer', only: current, fewer"):
        backfill.plan(Context(two_days), DAY, DAY, "newer", "both")
    assert lake.read("shards").is_empty()


def test_a_missing_network_fails_the_dry_run(two_days: Settings, lake: Lake) -> None:
    """Fault 40: the plan passed, and then every shard failed."""
    gone = PictureEncoder(name="n", path=Path("/gone.onnx"), sha256="0" * 64, dim=2)
    candidate = CandidateExtractor(visual=VisualConfig(encoder=gone))
    settings = two_days.model_copy(update={"candidates": {"new": candidate}})
    with pytest.raises(SettingsError, match=r"/gone.onnx does not exist \(visual.encoder\)"):
        backfill.plan(Context(settings), DAY, DAY, "new", "both")
    assert planned_clips(settings, DAY, DAY, "new", "audio") == 2


def test_a_plan_logs_clips_minutes_and_cpu_hours(
    two_days: Settings, lake: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "pipeline.extraction.backfill"):
        backfill.plan(Context(two_days), DAY, NEXT_DAY, "current", "both")
    assert "4 clips, 0.2 minutes of media, 0.00 CPU hours expected" in caplog.text
    assert "shard 0: 4 clips, 0 min, 2 CPU s expected" in caplog.text


def test_features_of_a_candidate_are_stored_beside_the_current_ones(
    two_days: Settings, lake: Lake
) -> None:
    for extractor in ("current", "fewer"):
        chosen = two_days.with_extractor(extractor)
        for shard in backfill.plan(Context(two_days), DAY, DAY, extractor, "both"):
            extract.run(Context(chosen), shard.plan, shard.shard)
        assert planned_clips(two_days, DAY, DAY, extractor, "both") == 0
    for modality in Modality:
        rows = lake.read(f"{modality}_features")
        assert len(rows) == 4
        assert set(rows["extractor"]) == {
            extractors(two_days)[modality],
            extractors(two_days.with_extractor("fewer"))[modality],
        }


def test_the_command_is_a_dry_run_by_default(
    two_days: Settings, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEBCM_LAKE__ROOT", two_days.lake.root)
    monkeypatch.setenv("DEBCM_LANDING__ROOT", str(two_days.landing.root))
    asked = ["backfill", "--first-day", "2026-03-01", "--last-day", "2026-03-02"]
    said = CliRunner().invoke(app, asked).output
    assert "shard 0: 4 clips, 0 min, 2 CPU s expected" in said
    assert said.endswith("4 clips to extract. Run again with --no-dry-run to extract them.\n")
    assert lake.read("audio_features").is_empty()
    done = CliRunner().invoke(app, [*asked, "--kind", "audio", "--no-dry-run"])
    assert done.exit_code == 0, done.output
    assert lake.read("audio_features").height == 2
    assert lake.read("visual_features").is_empty()
    again = CliRunner().invoke(app, [*asked, "--kind", "audio"]).output
    assert again == "0 clips to extract. Run again with --no-dry-run to extract them.\n"


def test_a_dry_run_gives_no_shards_to_extract(
    two_days: Settings, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEBCM_LAKE__ROOT", two_days.lake.root)
    monkeypatch.setenv("DEBCM_LANDING__ROOT", str(two_days.landing.root))
    asked = {"first_day": "2026-03-01", "last_day": "2026-03-02", "extractor": "current"}
    assert steps.plan_backfill(**asked, kind="both", dry_run=True) == []
    (shard,) = steps.plan_backfill(**asked, kind="visual", dry_run=False)
    assert shard["kinds"] == ("visual",)
    assert shard["label"] == "shard 0: 3 clips, 0 min"
