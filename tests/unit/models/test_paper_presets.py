from __future__ import annotations

from models import ModelConfig
from models.paper_presets import IGNORED_BY_PAPER, IGNORED_BY_RELEASED, PAPER, RELEASED


def test_presets_and_ignored_fields_are_fields_of_the_configuration() -> None:
    fields = ModelConfig.model_fields.keys()
    assert {*PAPER, *RELEASED, *IGNORED_BY_PAPER, *IGNORED_BY_RELEASED} <= fields


def test_paper_differs_from_released_where_the_losses_were_fixed() -> None:
    different = {name for name in PAPER if PAPER[name] != RELEASED.get(name)}
    assert different == {
        "variant",
        "teacher_learning_rate",
        "distill_weight",
        "masking",
        "kl_weight",
    }


def test_a_preset_is_the_default_of_its_variant() -> None:
    for preset in (PAPER, RELEASED):
        config = ModelConfig(variant=preset["variant"])
        assert {name: getattr(config, name) for name in preset} == preset
