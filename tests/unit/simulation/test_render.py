"""Rendering a small world: landing contract, equal bytes, reuse, and the command line."""

from __future__ import annotations

import ast
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.ingestion.landing_day import LandingDay, landing_days
from simulation import render
from simulation.plan import SEGMENT_SECONDS
from simulation.render import RenderedWorld, render_world
from simulation.truth import Truth, load_truth
from tests.helpers.rendered_world import TINY, file_hashes, manifest_rows


def test_days_keep_the_landing_contract(tiny: RenderedWorld, truth: Truth) -> None:
    assert tuple(landing_days(tiny.folder)) == truth.days
    manifests = set()
    for date in truth.days:
        day = LandingDay(tiny.folder, date)
        day.require_success()
        for name in ("videos", "music"):
            manifests.add((name, Path(day.manifest(name).file).suffix))
            assert manifest_rows(day, name)
    assert manifests == {
        (n, s) for n in ("videos", "music") for s in (".csv", ".jsonl", ".parquet")
    }


def test_ordinary_rows_name_files_with_their_hash(tiny: RenderedWorld, truth: Truth) -> None:
    odd = {(row.day, row.id) for row in truth.odd}
    seen, hashed = 0, 0
    for date in truth.days:
        day = LandingDay(tiny.folder, date)
        for row in manifest_rows(day, "videos") + manifest_rows(day, "music"):
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


def test_a_complete_world_is_reused_and_another_is_replaced(
    tiny: RenderedWorld, tmp_path: Path
) -> None:
    out, aside = tmp_path / "days", tmp_path / ".days.partial"
    shutil.copytree(tiny.folder, out)
    shutil.copytree(tiny.truth, tmp_path / "truth")
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = render_world(out, seed=5, sizes=TINY)
    assert again.was_complete
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == stamps
    aside.mkdir()
    (aside / "left_by_a_killed_run.txt").touch()
    other = render_world(out, seed=6, sizes=TINY.model_copy(update={"n_videos": 2, "n_pgc": 0}))
    assert not other.was_complete
    assert not aside.exists()
    assert not (out / "left_by_a_killed_run.txt").exists()
    truth, affinity = load_truth(other.truth)
    assert truth.seed == 6
    assert affinity.shape == (2, TINY.n_music)
    video = "media/video/v0001.mp4"
    (before,), (after,) = tiny.folder.glob(f"dt=*/{video}"), out.glob(f"dt=*/{video}")
    assert before.read_bytes() != after.read_bytes()


def test_a_change_of_any_rendering_module_makes_a_world_stale() -> None:
    package = Path(render.__file__).parent
    used, to_visit = set(), ["render"]
    while to_visit:
        name = to_visit.pop()
        used.add(name)
        for node in ast.walk(ast.parse((package / f"{name}.py").read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("simulation."):
                module = str(node.module).removeprefix("simulation.")
                to_visit += [module] if module not in used else []
    assert used == set(render._SOURCES)


def test_equal_seeds_give_equal_bytes(tiny: RenderedWorld, tmp_path: Path) -> None:
    again = render_world(tmp_path / "days", seed=5, workers=1, sizes=TINY)
    assert file_hashes(again.folder) == file_hashes(tiny.folder)
    assert file_hashes(again.truth) == file_hashes(tiny.truth)


def test_a_folder_with_other_files_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("do not touch")
    with pytest.raises(FileExistsError, match="name an empty folder"):
        render_world(tmp_path, sizes=TINY, truth=tmp_path / "truth")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_world_of_two_days_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least three days, found 2"):
        render_world(tmp_path / "days", days=2, sizes=TINY)
    assert not (tmp_path / "days").exists()


def test_the_command_line_reports_an_error(tiny: RenderedWorld, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    done = subprocess.run(
        [sys.executable, "-m", "simulation.render", str(tmp_path)],
        cwd=Path(render.__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "name an empty folder" in done.stderr
