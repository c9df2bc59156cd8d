"""A run without any professional music video: no teacher, and everything after it copes."""

from typing import Any

import pytest

from pipeline import dataset
from pipeline.errors import ProvenanceError
from pipeline.evaluate import evaluate
from pipeline.gate import Force, decide
from pipeline.releases.publish import publish
from pipeline.reporting import report
from pipeline.reporting.summary import summary
from pipeline.schemas import TABLES
from pipeline.training import train_student_step, train_teacher_step


def without_segments(toy: Any, kept: int) -> str:
    """Build the run of all but the first few segments; return its run_id."""
    rows = toy.lake.read("segments").sort("segment_id")
    day = rows["dt"][0]
    frame = TABLES["segments"].frame(rows.head(kept).to_dicts())
    toy.lake.replace("segments", frame, {"dt": day})
    return str(dataset.build(toy.settings, toy.lake, toy.store, day).run_id)


@pytest.mark.parametrize("kept", [0, 1])
def test_the_run_trains_and_is_judged_published_and_reported(toy: Any, kept: int) -> None:
    settings, lake, store = toy.settings, toy.lake, toy.store
    run_id = without_segments(toy, kept)
    teacher = train_teacher_step(settings, store, run_id)
    assert teacher.skipped == f"{kept} PGC segments, 2 are needed"
    assert (teacher.epochs, teacher.unchanged) == (0, False)
    student = train_student_step(settings, store, run_id)
    assert (student.epochs, student.skipped) == (settings.model.epochs, "")
    assert student.share is None
    assert set(evaluate(settings, store, run_id).recall) == {"challenger", "random", "popularity"}
    decide(settings, lake, store, run_id, Force("tester", "few picks make a weak student"))
    publish(settings, lake, store, run_id)
    card = (store.fetch(f"releases/{run_id}") / "model_card.md").read_text(encoding="utf-8")
    assert "| this model |" in card
    assert "| teacher |" not in card
    page = report.render(report.gather(settings, lake, store, run_id))
    assert "There was no teacher: the student learned from uploaders' picks alone." in page
    assert "of the way from its teacher" not in page
    assert "challenger" in summary(settings, lake, store, run_id)


def test_settings_without_a_teacher_train_none(toy: Any) -> None:
    model = toy.settings.model.model_copy(update={"teacher": False, "distill": "none", "epochs": 1})
    settings = toy.settings.model_copy(update={"model": model})
    run_id = dataset.build(settings, toy.lake, toy.store, toy.lake.read("segments")["dt"][0]).run_id
    found = train_teacher_step(settings, toy.store, run_id)
    assert found.skipped == "the configuration asks for none"
    train_student_step(settings, toy.store, run_id)
    assert "teacher" not in evaluate(settings, toy.store, run_id).recall


def test_a_teacher_that_could_be_there_is_waited_for(toy: Any) -> None:
    toy.store.remove(f"runs/{toy.run_id}/teacher")
    toy.store.remove(f"runs/{toy.run_id}/student")
    with pytest.raises(ProvenanceError, match="teacher"):
        train_student_step(toy.settings, toy.store, toy.run_id)
