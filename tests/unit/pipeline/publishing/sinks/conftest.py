"""Sinks for the tests: one in memory that fails on demand, and settings that name real ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.context import Context
from pipeline.publishing.sinks.base import SinkError
from pipeline.training import evaluate, gate


class MemorySink:
    """A sink in memory; `fails` names the steps that raise SinkError."""

    def __init__(self) -> None:
        self.staged: set[str] = set()
        self.shown: str | None = None
        self.fails: set[str] = set()

    def current(self) -> str | None:
        return self.shown

    def stage(self, folder: Path) -> None:
        self._fail("stage")
        self.staged.add(folder.name)

    def activate(self, release_id: str) -> None:
        self._fail("activate")
        assert release_id in self.staged
        self.shown, self.staged = release_id, {release_id}

    def _fail(self, step: str) -> None:
        if step in self.fails:
            raise SinkError("connection refused", where="memory")


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> MemorySink:
    """The only sink that the pipeline opens."""
    sink = MemorySink()
    for module in ("pipeline.publishing.sinks.following", "pipeline.publishing.publish"):
        monkeypatch.setattr(f"{module}.open_sinks", lambda _: [sink])
    return sink


@pytest.fixture
def pass_gate() -> Callable[[Any, str], None]:
    """Evaluate a run and let the gate decide, so that it can be published."""

    def evaluate_and_decide(toy: Any, run_id: str) -> None:
        evaluate.run(Context(toy.settings), run_id)
        assert gate.decide(Context(toy.settings), run_id).may_publish

    return evaluate_and_decide


@pytest.fixture
def with_release() -> Callable[..., Any]:
    """Change fields of section [release] of a toy's settings."""

    def changed(toy: Any, **fields: object) -> Any:
        release = toy.settings.release.model_copy(update=fields)
        settings = toy.settings.model_copy(update={"release": release})
        return dataclasses.replace(toy, settings=settings)

    return changed
