"""Old names of modules fail with their new name, and docs/upgrading.md lists them."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.moved import MOVED

CHECKOUT = Path(__file__).resolve().parents[3]
PAGE = (CHECKOUT / "docs" / "upgrading.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_fails_with_its_new_name(old: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=f"{old} is now {MOVED[old]} "):
        importlib.import_module(old)
    assert importlib.util.find_spec(MOVED[old])
    assert f"| `{old}` | `{MOVED[old]}` |" in PAGE


def test_an_old_name_on_the_command_line_fails_with_its_new_name() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pipeline.documents"], capture_output=True, text=True, cwd=CHECKOUT
    )
    assert run.returncode == 1
    assert "pipeline.documents is now tools.docs_pages" in run.stderr


def test_another_missing_module_fails_as_usual() -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named"):
        importlib.import_module("pipeline.never_was")
