"""Makes lake.tar.xz and expected.json: a small lake as the code before the rooms wrote it.

Run it with that code, in a checkout of its own; the names that it imports are the old ones:

    git worktree add ../before d14486d && cd ../before && make install
    .venv/bin/python ../debcm-pipeline/tests/data/lake_before_rooms/recipe.py

The lake holds catalogue, features, quarantine, one deletion request that is not applied yet, one
run with teacher, student and evaluation, its gate decision, its report, and its release.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tarfile
import tempfile
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent
WORLD = {"n_videos": 240, "n_music": 40, "n_uploaders": 16, "n_pgc": 12}
GATE = {"min_test_rows": 20, "slice_rows": 20}
QUERY = "v0000"
TABLES = ("videos", "music", "segments", "visual_features", "audio_features", "quarantine")


def old_fixtures() -> ModuleType:
    """Load the old tests' module that builds lakes."""
    path = Path("tests/unit/pipeline/releases/conftest.py")
    spec = importlib.util.spec_from_file_location("toy", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["toy"] = module
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Build the lake, publish from it, and write what readers of it must find."""
    toy = old_fixtures()
    from pipeline.gate import Force
    from pipeline.lake import Lake
    from pipeline.releases.serving import Release
    from pipeline.reporting.report import write_report
    from pipeline.storage.store import Store
    from simulation.world import make_world

    toy.CONFIG = toy.CONFIG.model_copy(update=WORLD)
    gate = toy.SETTINGS.gate.model_copy(update=GATE)
    toy.SETTINGS = toy.SETTINGS.model_copy(update={"gate": gate})
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "lake"
        settings = toy.settings_in(root)
        lake, store, world = Lake(settings.lake), Store(settings.lake), make_world(toy.CONFIG)
        toy.write_tables(lake, world)
        run_id = toy.dataset.build(settings, lake, store, toy.DAY).run_id
        toy.train_teacher_step(settings, store, run_id)
        toy.train_student_step(settings, store, run_id)
        made = toy.Toy(settings, lake, store, run_id, world)
        made.quarantine(("video", "bad", "videos.csv row 9: bad.mp4 does not exist", None))
        toy.evaluate(settings, store, run_id)
        decision = toy.decide(settings, lake, store, run_id, Force("the recipe", "a small lake"))
        toy.publish(settings, lake, store, run_id)
        write_report(settings, lake, store, run_id)
        release = Release.open(str(root))
        hits = release.search(release.embedding(QUERY), top=10)
        expected = {
            "run_id": run_id,
            "release_id": release.release_id,
            "decision": decision.decision,
            "query": QUERY,
            "hits": [[hit.music_id, round(hit.score, 4)] for hit in hits],
            "rows": {name: len(lake.read(name)) for name in TABLES},
        }
        made.ask("video", "v0003")
        (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
        with tarfile.open(HERE / "lake.tar.xz", "w:xz") as archive:
            archive.add(root, "lake")


if __name__ == "__main__":
    main()
