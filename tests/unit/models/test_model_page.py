"""docs/model.md: its example runs, and every place it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "model.md").read_text(encoding="utf-8")
PLACES = sorted(set(re.findall(r"`([\w/]+\.py): (\w+)`", PAGE)))


def test_the_page_names_places() -> None:
    assert len(PLACES) > 30


@pytest.mark.parametrize(("file", "name"), PLACES)
def test_every_place_is_there(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    defined = {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    assert name in defined


def test_the_example_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len([line for line in example.splitlines() if line.strip()]) <= 36
    exec(compile(example, "docs/model.md", "exec"), {})
