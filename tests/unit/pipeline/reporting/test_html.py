"""Filling the HTML templates: escaping and missing values."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError

from pipeline.reporting.html import fill


def test_values_are_escaped() -> None:
    release = {"release_id": "<b>r</b>", "at": "", "why": "a & b", "kept": True, "report": False}
    page = fill("runs.html", {"runs": [], "releases": [release]})
    assert "&lt;b&gt;r&lt;/b&gt;" in page
    assert "a &amp; b" in page


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="releases"):
        fill("runs.html", {"runs": []})
