"""Generated pages are what the code says today."""

from __future__ import annotations

import pytest

from tools.docs_pages import CHECKOUT, pages


@pytest.mark.parametrize("name", pages())
def test_page_is_fresh(name: str) -> None:
    stored = (CHECKOUT / "docs" / name).read_text(encoding="utf-8")
    assert stored == pages()[name], "stale: run `make docs`"
