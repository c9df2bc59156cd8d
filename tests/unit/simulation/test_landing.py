"""Delivering the days of a rendered world to a landing folder."""

from __future__ import annotations

import datetime as dt
import hashlib
from pathlib import Path

import pytest

from pipeline.ingestion.landing_day import LandingDay, landing_days
from simulation.landing import SUCCESS, day_folder, deliver_day, deliver_late
from simulation.render import RenderedWorld
from simulation.truth import Truth
from tests.helpers.rendered_world import file_hashes, manifest_rows


def test_days_are_delivered_one_at_a_time(
    tiny: RenderedWorld, truth: Truth, tmp_path: Path
) -> None:
    landing = tmp_path / "landing"
    first = deliver_day(tiny.folder, landing, truth.days[0])
    assert landing_days(landing) == [truth.days[0]]
    assert (first / SUCCESS).is_file()
    assert file_hashes(first) == file_hashes(day_folder(tiny.folder, truth.days[0]))
    (first / "note.txt").write_text("changed since")
    (landing / f".dt={truth.days[1]}.partial").mkdir()
    deliver_day(tiny.folder, landing, truth.days[0])
    assert (first / "note.txt").exists()
    deliver_day(tiny.folder, landing, truth.days[1])
    assert sorted(path.name for path in landing.iterdir()) == [
        f"dt={truth.days[0]}", f"dt={truth.days[1]}",
    ]  # fmt: skip
    with pytest.raises(FileNotFoundError):
        deliver_day(tiny.folder, landing, dt.date(1999, 1, 1))


def test_a_late_upload_changes_a_delivered_day(
    tiny: RenderedWorld, truth: Truth, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="deliver the day first"):
        deliver_late(tiny.folder, tmp_path)
    deliver_day(tiny.folder, tmp_path, truth.days[0])
    day = LandingDay(tmp_path, truth.days[0])
    before, mark = manifest_rows(day, "videos"), day.fingerprint("")
    assert deliver_late(tiny.folder, tmp_path)
    assert not deliver_late(tiny.folder, tmp_path)
    after = manifest_rows(day, "videos")
    assert day.fingerprint("") != mark
    assert after[: len(before)] == before
    (late,) = truth.late
    assert [row["video_id"] for row in after[len(before) :]] == [late.id]
    path = day.folder / str(after[-1]["media_path"])
    assert after[-1]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not list(tmp_path.rglob("*.partial"))
