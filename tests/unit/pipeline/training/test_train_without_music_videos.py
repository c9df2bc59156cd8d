"""A run without professional music videos has no teacher; all later steps work without one."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.context import Context
from pipeline.errors import ProvenanceError
from pipeline.lake.schemas import TABLES
from pipeline.publishing import publish
from pipeline.reporting import report, summary
from pipeline.training import dataset, evaluate, gate, train
from pipeline.training.gate import ForceRequest


def without_segments(toy: Any, kept: int) -> str:
    """Keep only the first segments, build the dataset, and return its run_id."""
    rows = toy.lake.read("segments").sort("segment_id")
    day = rows["dt"][0]
    frame = TABLES["segments"].frame(rows.head(kept).to_dicts())
    toy.lake.replace("segments", frame, {"dt": day})
    return str(dataset.build(Context(toy.settings), day).run_id)


@pytest.mark.parametrize("kept", [0, 1])
def test_a_run_without_a_teacher_is_trained_evaluated_published_and_reported(
    toy: Any, kept: int
) -> None:
    settings, lake, store = toy.settings, toy.lake, toy.store
    run_id = without_segments(toy, kept)
    teacher = train.teacher(Context(settings), run_id)
    assert teacher.skipped == f"{kept} PGC segments, 2 are needed"
    assert (teacher.epochs, teacher.unchanged) == (0, False)
    student = train.student(Context(settings), run_id)
    assert (student.epochs, student.skipped) == (settings.model.epochs, "")
    assert student.share is None
    assert set(evaluate.run(Context(settings), run_id).recall) == {
        "challenger",
        "random",
        "popularity",
    }
    gate.decide(Context(settings), run_id, ForceRequest("tester", "few picks make a weak student"))
    publish.run(Context(settings), run_id)
    card = (store.fetch(f"releases/{run_id}") / "model_card.md").read_text(encoding="utf-8")
    assert "| this model |" in card
    assert "| teacher |" not in card
    page = report.render(report.gather(settings, lake, store, run_id))
    assert "There is no teacher: the student was trained only on uploaders' picks." in page
    assert "of the way from the teacher" not in page
    assert "challenger" in summary.text(Context(settings), run_id)


def test_settings_without_a_teacher_train_none(toy: Any) -> None:
    model = toy.settings.model.model_copy(update={"teacher": False, "distill": "none", "epochs": 1})
    settings = toy.settings.model_copy(update={"model": model})
    run_id = dataset.build(Context(settings), toy.lake.read("segments")["dt"][0]).run_id
    found = train.teacher(Context(settings), run_id)
    assert found.skipped == "the configuration asks for none"
    train.student(Context(settings), run_id)
    assert "teacher" not in evaluate.run(Context(settings), run_id).recall


def test_a_student_is_not_trained_before_its_teacher(toy: Any) -> None:
    toy.store.remove(f"runs/{toy.run_id}/teacher")
    toy.store.remove(f"runs/{toy.run_id}/student")
    with pytest.raises(ProvenanceError, match="teacher"):
        train.student(Context(toy.settings), toy.run_id)
