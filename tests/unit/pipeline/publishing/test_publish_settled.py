"""When a retraining over the same data has nothing left to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.context import Context
from pipeline.errors import LakeUnavailableError
from pipeline.publishing import publish
from pipeline.publishing.sinks.base import SinkError
from pipeline.reporting import facts, report
from pipeline.training import evaluate, gate


class Sink:
    """A database that takes a release when it is well."""

    def __init__(self) -> None:
        self.serves: str | None = None

    def current(self) -> str | None:
        return self.serves

    def stage(self, folder: Path) -> None:
        assert folder.is_dir()

    def activate(self, release_id: str) -> None:
        self.serves = release_id


def test_a_run_that_was_never_judged_is_not_settled(toy: Any) -> None:
    assert not publish.is_settled(Context(toy.settings), toy.run_id)


def test_a_run_whose_publication_failed_is_not_settled_until_it_is_published(
    toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = (Context(toy.settings), toy.run_id)
    evaluate.run(Context(toy.settings), toy.run_id)
    assert gate.decide(*place).may_publish
    assert not publish.is_settled(*place)
    publish.run(*place)
    assert publish.is_settled(*place)
    # Made current, and then a sink did not take it.
    sink = Sink()
    monkeypatch.setattr(publish, "open_sinks", lambda _: [sink])
    assert not publish.is_settled(*place)
    sink.activate(toy.run_id)
    assert publish.is_settled(*place)


def test_a_sink_that_does_not_answer_is_told(
    published: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Sink) -> None:
        raise SinkError("no answer")

    monkeypatch.setattr(Sink, "current", fail)
    monkeypatch.setattr(publish, "open_sinks", lambda _: [Sink()])
    with pytest.raises(SinkError):
        publish.is_settled(Context(published.settings), published.run_id)


def test_a_refused_run_is_settled(toy: Any) -> None:
    strict = toy.settings.gate.model_copy(update={"min_test_rows": 10_000})
    settings = toy.settings.model_copy(update={"gate": strict})
    evaluate.run(Context(settings), toy.run_id)
    assert not gate.decide(Context(settings), toy.run_id).may_publish
    assert publish.is_settled(Context(settings), toy.run_id)


def test_a_report_that_finds_the_lake_gone_says_so(
    published: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(published.store.root)
    load = facts.Model.load

    def vanishing(folder: Path) -> Any:
        root.rename(f"{root}.away")
        return load(folder)

    monkeypatch.setattr(facts.Model, "load", vanishing)
    with pytest.raises(LakeUnavailableError, match=str(root)):
        report.run(Context(published.settings), published.run_id)
