"""When a retraining on the same data has nothing left to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.context import Context
from pipeline.publishing import publish
from pipeline.publishing.sinks.base import SinkError
from pipeline.training import evaluate, gate


class Sink:
    """A sink that accepts every release."""

    def __init__(self) -> None:
        self.serves: str | None = None

    def current(self) -> str | None:
        return self.serves

    def stage(self, folder: Path) -> None:
        assert folder.is_dir()

    def activate(self, release_id: str) -> None:
        self.serves = release_id


def test_a_run_without_a_decision_is_not_settled(toy: Any) -> None:
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
    # The release is current, but a sink did not accept it.
    sink = Sink()
    monkeypatch.setattr(publish, "open_sinks", lambda _: [sink])
    assert not publish.is_settled(*place)
    sink.activate(toy.run_id)
    assert publish.is_settled(*place)


def test_a_sink_that_does_not_answer_is_an_error(
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
