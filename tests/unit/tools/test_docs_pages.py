"""The generated pages in docs/ agree with the code."""

from __future__ import annotations

import pytest

from tools.docs_pages import CHECKOUT, pages


@pytest.mark.parametrize("name", pages())
def test_the_page_agrees_with_the_code(name: str) -> None:
    stored = (CHECKOUT / "docs" / name).read_text(encoding="utf-8")
    assert stored == pages()[name], "the page is out of date: run `make docs`"
