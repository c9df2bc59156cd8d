from __future__ import annotations

from typing import get_args

import pytest
from pydantic import ValidationError

from models import ModelConfig, TrainingData, fit
from models.checkpoint import tensors_digest
from models.config import _IGNORED, VariantName


@pytest.mark.parametrize("variant", ["released", "paper", "debcm"])
def test_a_variant_has_its_own_defaults(variant: str) -> None:
    plain = ModelConfig(variant=variant)
    assert plain == ModelConfig.preset(variant)
    assert (plain.adjustment == "score") == (variant == "debcm")
    assert ModelConfig.model_validate_json(plain.model_dump_json()) == plain


def test_given_fields_override_the_preset_of_the_variant() -> None:
    assert ModelConfig(variant="paper", epochs=3, distill="none").epochs == 3
    assert ModelConfig(variant="paper", distill="none").distill == "none"


@pytest.mark.parametrize("adjustment", ["score", "probability"])
def test_an_average_over_the_population_needs_debcm(adjustment: str) -> None:
    with pytest.raises(ValidationError, match=f"'{adjustment}' needs variant debcm"):
        ModelConfig(variant="paper", adjustment=adjustment)


@pytest.mark.parametrize("variant", [["debcm"], {"name": "debcm"}, 3, "other"])
def test_an_unknown_variant_is_refused_with_the_known_ones(variant: object) -> None:
    with pytest.raises(ValidationError, match="variant\n  Input should be 'debcm', 'paper' or"):
        ModelConfig.model_validate({"variant": variant})


def test_a_paper_student_has_no_scores_to_distil() -> None:
    with pytest.raises(ValidationError, match="distill 'scores' needs variant debcm; paper has"):
        ModelConfig(variant="paper", distill="scores")


IGNORED = [
    ("debcm", "kl_weight", 0.5),
    *[
        (variant, name, value)
        for variant in ("paper", "released")
        for name, value in {
            "hidden": 128,
            "temperature": 0.1,
            "picks_weight": 1.0,
            "popularity": True,
            "contrast": "history",
            "history": 8,
            "known": 5,
            "ips": True,
            "sample": 100,
            "interpolate": True,
        }.items()
    ],
    ("released", "masking", True),
]


@pytest.mark.parametrize(("variant", "name", "value"), IGNORED)
def test_a_field_that_the_variant_ignores_is_refused(
    variant: str, name: str, value: object
) -> None:
    with pytest.raises(ValidationError, match=f"{name} is not read by variant {variant}"):
        ModelConfig(**{"variant": variant, name: value})


def test_every_ignored_field_is_tested_above() -> None:
    named = {(variant, name) for variant, names in _IGNORED.items() for name in names}
    assert named == {(variant, name) for variant, name, _ in IGNORED}


@pytest.mark.parametrize("variant", get_args(VariantName))
def test_an_ignored_field_changes_no_model(variant: VariantName, training: TrainingData) -> None:
    config = ModelConfig.preset(variant, epochs=1, teacher_epochs=1, batch_size=128, dim=8)
    changes = {name: value for kind, name, value in IGNORED if kind == variant}
    one, other = fit(training, config), fit(training, config.model_copy(update=changes))
    assert tensors_digest(one.network.state_dict()) == tensors_digest(other.network.state_dict())
