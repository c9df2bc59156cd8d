import ast
import datetime as dt
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from features.config import Limits
from features.errors import MediaError, Reason
from features.workers.job import Job, JobKind
from features.workers.pool import MediaPool
from pipeline.errors import RowReason
from pipeline.ingestion.landing_day import LandingDay, landing_days
from simulation import render
from simulation.landing import SUCCESS, day_folder, deliver_day, deliver_late
from simulation.plan import SEGMENT_SECONDS, SMALL_WORLD
from simulation.render import RenderedWorld, render_world
from simulation.truth import Truth, load_truth

TINY = SMALL_WORLD.model_copy(
    update={"n_videos": 6, "n_music": 8, "n_uploaders": 2, "n_pgc": 1, "segments_per_pgc": 2}
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> RenderedWorld:
    out = tmp_path_factory.mktemp("world") / "days"
    return render_world(out, seed=5, workers=2, sizes=TINY)


@pytest.fixture(scope="module")
def truth(tiny: RenderedWorld) -> Truth:
    return load_truth(tiny.truth)[0]


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _rows(day: LandingDay, name: str) -> list[dict[str, object]]:
    manifest = day.manifest(name)
    assert manifest.bad == []
    return [row for _, row in manifest.rows]


def test_days_keep_the_landing_contract(tiny: RenderedWorld, truth: Truth) -> None:
    assert tuple(landing_days(tiny.folder)) == truth.days
    manifests = set()
    for date in truth.days:
        day = LandingDay(tiny.folder, date)
        day.require_success()
        for name in ("videos", "music"):
            manifests.add((name, Path(day.manifest(name).file).suffix))
            assert _rows(day, name)
    assert manifests == {
        (n, s) for n in ("videos", "music") for s in (".csv", ".jsonl", ".parquet")
    }


def test_ordinary_rows_name_files_with_their_hash(tiny: RenderedWorld, truth: Truth) -> None:
    odd = {(row.day, row.id) for row in truth.odd}
    seen, hashed = 0, 0
    for date in truth.days:
        day = LandingDay(tiny.folder, date)
        for row in _rows(day, "videos") + _rows(day, "music"):
            if (date, row.get("video_id", row.get("music_id"))) in odd:
                continue
            seen += 1
            path = day.folder / str(row["media_path"])
            with av.open(str(path)) as container:
                assert container.duration is not None
                assert container.duration > 3_900_000
            if row["sha256"] is not None:
                hashed += 1
                assert row["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert seen == TINY.n_videos + TINY.n_music + TINY.n_pgc
    assert 0 < hashed < seen


def test_truth_names_the_best_tracks(tiny: RenderedWorld, truth: Truth) -> None:
    _, affinity = load_truth(tiny.truth)
    assert affinity.shape == (TINY.n_videos, TINY.n_music)
    for row, clip in enumerate(truth.videos):
        assert clip.best[0] == truth.music[int(affinity[row].argmax())].music_id
        assert clip.picked in {track.music_id for track in truth.music}
    for shares in truth.preferences.values():
        assert sum(shares) == pytest.approx(1.0)
        assert len(shares) == len(truth.groups)
    assert not (tiny.folder / "truth").exists()


def test_pictures_and_sound_change_with_the_segment(tiny: RenderedWorld, truth: Truth) -> None:
    first, second = truth.segments
    assert (first.start, first.end, second.start) == (0.0, SEGMENT_SECONDS, SEGMENT_SECONDS)
    path = next(tiny.folder.glob(f"dt=*/media/video/{first.video_id}.mp4"))
    with av.open(str(path)) as container:
        colours: dict[int, list[np.ndarray]] = {0: [], 1: []}
        for frame in container.decode(video=0):
            picture = frame.to_ndarray(format="rgb24")
            colours[int(frame.time >= SEGMENT_SECONDS)].append(picture.mean(axis=(0, 1)))
    assert len(colours[0]) == len(colours[1]) == SEGMENT_SECONDS * 15
    between = np.linalg.norm(np.mean(colours[0], axis=0) - np.mean(colours[1], axis=0))
    assert between > 10


def test_reasons_are_codes_of_the_quarantine(truth: Truth) -> None:
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
        found = [entry for entry in _rows(day, name) if entry[key] == row.id]
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


def test_truncated_file_has_lost_half_of_its_frames(tiny: RenderedWorld, truth: Truth) -> None:
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


def test_odd_rows_are_what_they_say(tiny: RenderedWorld, truth: Truth) -> None:
    by_reason = {row.reason: row for row in truth.odd}
    days = {date: LandingDay(tiny.folder, date) for date in truth.days}
    rows = {date: _rows(day, "videos") for date, day in days.items()}
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
    content = _hashes(tiny.folder)
    place = f"dt={twin.day}/media/video/{twin.id}.mp4"
    assert list(content.values()).count(content[place]) == 2


def test_complete_world_is_reused_and_another_replaced(tiny: RenderedWorld, tmp_path: Path) -> None:
    out, aside = tmp_path / "days", tmp_path / ".days.partial"
    shutil.copytree(tiny.folder, out)
    shutil.copytree(tiny.truth, tmp_path / "truth")
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = render_world(out, seed=5, sizes=TINY)
    assert again.was_there
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == stamps
    aside.mkdir()
    (aside / "left_by_a_killed_run.txt").touch()
    other = render_world(out, seed=6, sizes=TINY.model_copy(update={"n_videos": 2, "n_pgc": 0}))
    assert not other.was_there
    assert not aside.exists()
    assert not (out / "left_by_a_killed_run.txt").exists()
    truth, affinity = load_truth(other.truth)
    assert truth.seed == 6
    assert affinity.shape == (2, TINY.n_music)
    video = "media/video/v0001.mp4"
    (before,), (after,) = tiny.folder.glob(f"dt=*/{video}"), out.glob(f"dt=*/{video}")
    assert before.read_bytes() != after.read_bytes()


def test_every_module_that_renders_decides_whether_a_world_is_stale() -> None:
    package = Path(render.__file__).parent
    used, open_ends = set(), ["render"]
    while open_ends:
        name = open_ends.pop()
        used.add(name)
        for node in ast.walk(ast.parse((package / f"{name}.py").read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("simulation."):
                module = str(node.module).removeprefix("simulation.")
                open_ends += [module] if module not in used else []
    assert used == set(render._SOURCES)


def test_equal_seeds_give_equal_bytes(tiny: RenderedWorld, tmp_path: Path) -> None:
    again = render_world(tmp_path / "days", seed=5, workers=1, sizes=TINY)
    assert _hashes(again.folder) == _hashes(tiny.folder)
    assert _hashes(again.truth) == _hashes(tiny.truth)


def test_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("do not touch")
    with pytest.raises(FileExistsError, match="name an empty folder"):
        render_world(tmp_path, sizes=TINY, truth=tmp_path / "truth")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_two_days_are_too_few(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="need three days, the world has 2"):
        render_world(tmp_path / "days", days=2, sizes=TINY)
    assert not (tmp_path / "days").exists()


def test_days_are_delivered_one_by_one(tiny: RenderedWorld, truth: Truth, tmp_path: Path) -> None:
    landing = tmp_path / "landing"
    first = deliver_day(tiny.folder, landing, truth.days[0])
    assert landing_days(landing) == [truth.days[0]]
    assert (first / SUCCESS).is_file()
    assert _hashes(first) == _hashes(day_folder(tiny.folder, truth.days[0]))
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


def test_late_upload_changes_a_delivered_day(
    tiny: RenderedWorld, truth: Truth, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="deliver the day first"):
        deliver_late(tiny.folder, tmp_path)
    deliver_day(tiny.folder, tmp_path, truth.days[0])
    day = LandingDay(tmp_path, truth.days[0])
    before, mark = _rows(day, "videos"), day.fingerprint("")
    assert deliver_late(tiny.folder, tmp_path)
    assert not deliver_late(tiny.folder, tmp_path)
    after = _rows(day, "videos")
    assert day.fingerprint("") != mark
    assert after[: len(before)] == before
    (late,) = truth.late
    assert [row["video_id"] for row in after[len(before) :]] == [late.id]
    path = day.folder / str(after[-1]["media_path"])
    assert after[-1]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not list(tmp_path.rglob("*.partial"))


def test_command_line_says_what_it_did(tiny: RenderedWorld, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    done = subprocess.run(
        [sys.executable, "-m", "simulation.render", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "name an empty folder" in done.stderr
