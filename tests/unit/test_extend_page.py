"""docs/extend.md names files and code that exist, and the steps that it lists are complete."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import get_args

import pytest

from features.config import SoundBlock, VisualBlock
from features.errors import Reason
from features.sound.blocks import BLOCKS
from features.video.blocks import DIMS
from models.config import ModelConfig, VariantName
from models.registry import variant_of
from models.variant import Variant
from pipeline.errors import RowReason
from pipeline.lake.schemas import LANDING, TABLES
from pipeline.publishing.sinks import following
from pipeline.publishing.sinks.base import Sink
from pipeline.settings.sections import ReleaseSettings
from pipeline.training import gate

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = (CHECKOUT / "docs" / "extend.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n)+)", PAGE, re.MULTILINE))
CHANGES = (
    "A feature block",
    "A gate rule",
    "A column",
    "A reject reason",
    "A model variant",
    "A sink",
)


def code_of(change: str) -> set[str]:
    """Return what a section puts in backticks."""
    return set(re.findall(r"`([^`\n]+)`", SECTIONS[change]))


def files_of(change: str) -> list[str]:
    """Return the files of a section's table, in order."""
    return re.findall(r"^\| `([^`]+)` \|", SECTIONS[change], re.MULTILINE)


def test_the_six_changes_have_a_section_each() -> None:
    assert tuple(SECTIONS) == CHANGES


@pytest.mark.parametrize("change", CHANGES)
def test_every_named_file_exists(change: str) -> None:
    paths = {name for name in code_of(change) if re.fullmatch(r"[\w/]+\.\w+|[\w]+/[\w/]*", name)}
    files = files_of(change)
    assert 2 < len(files) == len(set(files))
    assert set(files) <= paths
    for name in paths - {"metrics.json"}:
        assert (CHECKOUT / name).exists(), name
    # Each section says where its tests belong.
    assert any(name.startswith("tests/") for name in paths)


@pytest.mark.parametrize("change", CHANGES)
def test_no_change_touches_more_than_six_files_besides_pages(change: str) -> None:
    assert len([name for name in files_of(change) if not name.endswith(".md")]) <= 6


# Section -> module -> the names of it that the section mentions.
NAMES = {
    "A feature block": {
        "features.config": ("VisualBlock", "SoundBlock"),
        "features.video.blocks": ("measure", "DIMS"),
        "features.sound.blocks": ("BLOCKS",),
        "features.networks.extractor_name": ("VISUAL_CODE", "AUDIO_CODE"),
    },
    "A gate rule": {
        "pipeline.settings.sections": ("GateSettings",),
        "pipeline.training.gate": (
            *("Verdict", "_embedding_rules", "_absolute_rules", "_champion_rules"),
        ),
    },
    "A column": {
        "pipeline.lake.schemas": ("_SHARED_FIELDS", "_OWN_FIELDS", "LANDING", "_LAKE_TABLES"),
        "pipeline.ingestion.ingest": ("_video_row", "_music_row"),
        "simulation.landing": ("video_row", "music_row"),
        "pipeline.errors": ("ProvenanceError",),
    },
    "A reject reason": {
        "pipeline.errors": ("RowReason", "_ROW_GUIDANCE"),
        "pipeline.ingestion.ingest": ("_apply_rules",),
        "pipeline.ingestion.row_rules": ("_HARMLESS",),
        "features.errors": ("Reason", "_GUIDANCE"),
    },
    "A model variant": {
        "models.config": ("VariantName", "_PRESETS", "_IGNORED", "ModelConfig"),
        "models.variant": ("Variant", "Network", "Encoder", "Objective"),
        "models.registry": ("variant_of",),
    },
    "A sink": {
        "pipeline.publishing.sinks.base": (
            *("Sink", "SinkError", "ForeignTableError", "MARK", "release_tables"),
        ),
        "pipeline.publishing.sinks.following": ("open_sinks",),
        "pipeline.settings.sections": ("ReleaseSettings",),
        "pipeline.storage.object_pointer": ("MissingExtraError",),
    },
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_named_thing_exists(change: str) -> None:
    for module, names in NAMES[change].items():
        for name in names:
            assert name in code_of(change), name
            assert hasattr(importlib.import_module(module), name), f"{module}.{name}"


def test_blocks_are_registered_only_where_the_page_says() -> None:
    assert set(DIMS) == set(get_args(VisualBlock))
    assert set(BLOCKS) | {"network"} == set(get_args(SoundBlock))


def test_the_page_names_every_function_with_gate_rules() -> None:
    named = {name for name in code_of("A gate rule") if name.endswith("_rules")}
    assert named == {name for name in vars(gate) if re.fullmatch(r"_\w+_rules", name)}


def test_a_column_of_a_manifest_has_the_name_of_the_tables_column() -> None:
    for manifest, table in (("landing_videos", "videos"), ("landing_music", "music")):
        assert set(LANDING[manifest].columns) - set(TABLES[table].columns) == {"sha256"}


def test_every_reason_has_texts_and_is_in_the_generated_page() -> None:
    generated = (CHECKOUT / "docs" / "reasons.md").read_text(encoding="utf-8")
    for reason in (*RowReason, *Reason):
        assert reason.meaning
        assert f"| `{reason}` |" in generated


def test_every_variant_is_an_object_that_the_registry_returns() -> None:
    for name in get_args(VariantName):
        assert isinstance(variant_of(ModelConfig.preset(name)), Variant)


def test_a_sink_has_the_methods_that_the_page_names() -> None:
    methods = {name for name in vars(Sink) if not name.startswith("_")}
    assert methods == {"current", "stage", "activate"}
    assert methods <= code_of("A sink")


def test_every_sink_is_a_file_a_setting_and_a_line_that_opens_it() -> None:
    opened = inspect.getsource(following.open_sinks)
    files = (CHECKOUT / "pipeline" / "publishing" / "sinks").glob("*.py")
    sinks = {path.stem for path in files} - {"__init__", "base", "following"}
    assert len(sinks) > 1
    for name in sinks:
        assert name in ReleaseSettings.model_fields
        assert f"settings.{name}" in opened
