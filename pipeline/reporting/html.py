"""Templates to pages; every value is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def fill(template: str, facts: Mapping[str, Any]) -> str:
    """The page that a template of this package makes of facts.

    Raises:
        jinja2.UndefinedError: the template needs a fact that is not there.
    """
    environment = Environment(
        loader=PackageLoader("pipeline.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(facts)
