"""The Makefile says what a machine lacks before it installs anything, and lists its targets."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
# Python code that makes this interpreter look like an unsuitable one.
OLDER = 'sys.version_info = (3, 12, 1); sys.version = "3.12.1 (main)"'
BARE = "import importlib.util; importlib.util.find_spec = lambda name: None"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose name has a space, with what `make install` reads."""
    if shutil.which("make") is None:
        pytest.skip("no make here")
    made = tmp_path / "a checkout"
    made.mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(CHECKOUT / name, made)
    return made


def install(folder: Path, python: str) -> str:
    done = subprocess.run(
        ["make", "install", f"PYTHON={python}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode
    assert not (folder / ".venv").exists()
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        (OLDER, "Python 3.11 is needed, this is 3.12.1"),
        (BARE, "apt-get install python3.11-venv"),
    ],
)
def test_an_unsuitable_python_is_reported_first(folder: Path, machine: str, message: str) -> None:
    python = folder / "python"
    python.write_text(
        f"#!/bin/sh\nexec '{sys.executable}' -c 'import sys; {machine}; exec(sys.argv[2])' \"$@\"\n"
    )
    python.chmod(0o755)
    assert message in install(folder, "./python")


def test_every_target_has_a_line_of_help(folder: Path) -> None:
    shown = subprocess.run(
        ["make", "help"], cwd=folder, capture_output=True, text=True, check=True
    ).stdout
    listed = {line.split()[0] for line in shown.splitlines()}
    (targets,) = (
        line.split(":")[1].split()
        for line in (folder / "Makefile").read_text().splitlines()
        if line.startswith(".PHONY")
    )
    assert set(targets) <= listed
