"""Looks up the implementation of the variant that a configuration names."""

from __future__ import annotations

from typing import Any

from models.config import ModelConfig
from models.variant import Variant


def variant_of(config: ModelConfig) -> Variant[Any]:
    """Return the implementation of `config.variant`.

    Only the module of that variant is imported, so the default does not load `models.paper`.
    """
    if config.variant == "debcm":
        from models.debcm import DEBCM

        return DEBCM
    from models.paper import PAPER, RELEASED

    return PAPER if config.variant == "paper" else RELEASED
