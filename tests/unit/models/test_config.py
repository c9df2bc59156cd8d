import pytest
from pydantic import ValidationError

from models import ModelConfig


@pytest.mark.parametrize("variant", ["released", "paper", "debcm"])
def test_a_variant_brings_its_own_defaults(variant: str) -> None:
    plain = ModelConfig(variant=variant)
    assert plain == ModelConfig.preset(variant)
    assert (plain.adjustment == "score") == (variant == "debcm")
    assert ModelConfig.model_validate_json(plain.model_dump_json()) == plain


def test_what_is_given_wins_over_the_default_of_the_variant() -> None:
    assert ModelConfig(variant="paper", epochs=3, distill="none").epochs == 3
    assert ModelConfig(variant="paper", distill="none").distill == "none"


@pytest.mark.parametrize("adjustment", ["score", "probability"])
def test_an_average_over_the_population_needs_debcm(adjustment: str) -> None:
    with pytest.raises(ValidationError, match=f"'{adjustment}' needs variant debcm"):
        ModelConfig(variant="paper", adjustment=adjustment)
