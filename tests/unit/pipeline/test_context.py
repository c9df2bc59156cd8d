"""A context opens the lake and the store of its settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.context import Context
from pipeline.settings.load import Settings, SettingsError
from pipeline.settings.sections import CandidateExtractor


def test_a_context_loads_the_current_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEBCM_LAKE__ROOT", str(tmp_path / "lake"))
    context = Context.load()
    assert context.settings.lake.root == str(tmp_path / "lake")
    assert context.lake.root == context.store.root == str(tmp_path / "lake")


def test_lake_and_store_are_opened_once_and_create_nothing(settings: Settings) -> None:
    context = Context(settings)
    assert context.lake is context.lake
    assert context.store is context.store
    assert not Path(settings.lake.root).exists()


def test_a_context_with_another_extractor_has_the_same_lake(settings: Settings) -> None:
    fewer = settings.visual.model_copy(update={"frames": 4})
    candidates = {"fewer": CandidateExtractor(visual=fewer)}
    context = Context(settings.model_copy(update={"candidates": candidates}))
    assert context.with_extractor("fewer").settings.visual == fewer
    assert context.with_extractor("fewer").lake.root == context.lake.root
    assert context.with_extractor("current").settings == context.settings
    with pytest.raises(SettingsError, match="'more'"):
        context.with_extractor("more")
