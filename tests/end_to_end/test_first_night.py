"""docs/first-night.md works word for word: its commands run in a checkout, in their order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = (CHECKOUT / "docs" / "first-night.md").read_text(encoding="utf-8")
# What the tutorial itself writes.
WRITTEN = ("debcm.toml", "demo", "lake", "landing", ".venv", ".airflow", ".git")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like the checkout, installed already."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for path in CHECKOUT.iterdir():
        if path.name not in WRITTEN:
            (folder / path.name).symlink_to(path)
    (folder / ".venv").symlink_to(Path(sys.executable).parents[1])
    return folder


def masked(line: str) -> str:
    """Return a line without figures and ids, which differ from machine to machine."""
    return re.sub(r"\s+", " ", re.sub(r"[+-]?\d[\w.-]*", "#", line)).strip()


def test_the_tutorial_works_word_for_word(checkout: Path) -> None:
    printed: set[str] = set()
    kinds: list[str] = []
    for kind, block in re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        kinds.append(kind)
        if kind == "toml":
            (checkout / "debcm.toml").write_text(block, encoding="utf-8")
        elif kind == "sh":
            commands = block.replace("make install\n", "")
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", commands],
                cwd=checkout,
                env={**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            printed |= {masked(line) for line in done.stdout.splitlines()}
        else:
            assert kind == "text"
            assert {masked(line) for line in block.splitlines()} <= printed
    assert kinds.count("sh") == 5
    assert kinds.count("text") == 4
    (report, _) = sorted((checkout / "lake" / "reports").glob("*/report.html"))
    assert report.stat().st_size > 100_000
