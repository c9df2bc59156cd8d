"""Fills the HTML templates of this package; every value is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

# A report's file and its template. The pages of the UI need this name, and `report` imports torch.
PAGE = "report.html"


def fill(template: str, values: Mapping[str, Any]) -> str:
    """Fill a template.

    Args:
        template: file name in the folder templates/.
        values: the values by the names that the template uses.

    Returns:
        The HTML page.

    Raises:
        jinja2.UndefinedError: the template uses a name that is not in `values`.
    """
    environment = Environment(
        loader=PackageLoader("pipeline.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)
