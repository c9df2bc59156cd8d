"""A lake and a release that the code before the rooms wrote are read as they were.

tests/data/lake_before_rooms/recipe.py says how the lake was made.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from features import extractor_name
from models import Model
from pipeline.context import Context
from pipeline.publishing import history
from pipeline.releases.serving import Release
from pipeline.reporting import report, summary
from pipeline.training import dataset, evaluate, gate
from pipeline.upkeep import erasure
from tests.data.lake_before_rooms import recipe
from tests.helpers import trained_lake

DATA = Path(recipe.__file__).parent
EXPECTED: dict[str, Any] = json.loads((DATA / "expected.json").read_text(encoding="utf-8"))
RUN = EXPECTED["run_id"]


@pytest.fixture
def context(tmp_path: Path) -> Context:
    with tarfile.open(DATA / "lake.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    settings = trained_lake.settings_in(tmp_path / "lake")
    rules = settings.gate.model_copy(update=recipe.GATE)
    return Context(settings.model_copy(update={"gate": rules}))


def test_tables_hold_the_same_rows(context: Context) -> None:
    rows = {name: len(context.lake.read(name)) for name in recipe.TABLES}
    assert rows == EXPECTED["rows"]


def test_the_release_recommends_the_same_tracks(context: Context) -> None:
    release = Release.open(context.settings.lake.root)
    assert release.release_id == EXPECTED["release_id"]
    hits = release.search(release.embedding(EXPECTED["query"]), top=10)
    assert [hit.music_id for hit in hits] == [name for name, _ in EXPECTED["hits"]]
    scores = [score for _, score in EXPECTED["hits"]]
    assert [hit.score for hit in hits] == pytest.approx(scores, abs=1e-3)


def test_the_release_verifies(context: Context) -> None:
    history.verify_release(context.store, EXPECTED["release_id"])


def test_equal_inputs_keep_the_run_id(context: Context) -> None:
    rows = context.lake.read("visual_features")
    if rows["extractor"][0] != extractor_name(context.settings.visual):
        pytest.skip("the packaged extractor has changed since: a new run id is right")
    built = dataset.build(context, trained_lake.DAY)
    assert (built.run_id, built.unchanged) == (RUN, True)


def test_models_and_evaluation_load(context: Context) -> None:
    for stage in ("teacher", "student"):
        model = Model.load(context.store.fetch(f"runs/{RUN}/{stage}"))
        assert model.config.dim == trained_lake.SETTINGS.model.dim
    assert evaluate.load_metrics(context.store, RUN)["contenders"].keys() >= {"challenger"}
    assert EXPECTED["decision"] == "forced"
    decisions = context.lake.read("runs").filter(run_id=RUN)["decision"].to_list()
    assert decisions == [EXPECTED["decision"]]
    assert gate.decide(context, RUN).decision == EXPECTED["decision"]


def test_the_report_is_written_again(context: Context) -> None:
    report.run(context, RUN)
    assert RUN in (context.store.fetch(f"reports/{RUN}") / report.PAGE).read_text("utf-8")
    assert EXPECTED["release_id"] in summary.text(context, RUN)


def test_a_deletion_request_from_before_is_applied(context: Context) -> None:
    erased = erasure.run(context)
    assert (erased.requests, erased.videos) == (1, 1)
    assert "v0003" not in context.lake.read("videos")["video_id"].to_list()
    assert "v0003" not in Release.open(context.settings.lake.root).video_ids
