"""The package debcm: what it exports, that it stays lazy, and that docs/python.md is complete."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import debcm

CHECKOUT = Path(__file__).resolve().parents[2]
EXPORTS = {
    "MediaError",
    "Model",
    "ModelConfig",
    "Picks",
    "ProvenanceError",
    "Reason",
    "Recommendation",
    "Release",
    "ReleaseError",
    "TrainingData",
    "__version__",
    "current_release",
    "fit",
    "metrics",
    "preference",
}


def modules_after(statement: str) -> set[str]:
    """Return the modules that a fresh interpreter holds after a statement."""
    script = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_the_exports_are_these() -> None:
    """Removing a name breaks users: say so in CHANGELOG.md."""
    assert set(debcm.__all__) == EXPORTS
    assert dir(debcm) == sorted(set(dir(debcm)))
    assert set(dir(debcm)) >= EXPORTS


@pytest.mark.parametrize("name", sorted(EXPORTS - {"__version__"}))
def test_every_export_is_the_documented_original(name: str) -> None:
    found = getattr(debcm, name)
    assert inspect.getdoc(found)
    if inspect.ismodule(found):
        assert found.__name__ == f"models.{name}"
    else:
        assert found.__name__ == name
        assert getattr(importlib.import_module(found.__module__), name) is found


def test_the_type_checker_sees_the_same_names() -> None:
    source = Path(debcm.__file__).read_text(encoding="utf-8")
    (block,) = re.findall(r"if TYPE_CHECKING:\n((?:    .*\n|\n)+)", source)
    imported = re.findall(r"import (.+)", block)
    names = {name.strip() for line in imported for name in line.split(",")}
    assert names == EXPORTS - {"__version__"}


def test_importing_the_package_loads_no_library() -> None:
    assert not modules_after("import debcm") & {
        *("torch", "polars", "numpy", "airflow", "pipeline", "features", "models")
    }


def test_a_release_needs_no_torch_and_no_tables() -> None:
    assert not modules_after("from debcm import Release") & {
        *("torch", "airflow", "deltalake", "polars", "models.train")
    }


def test_training_needs_no_tables_and_no_airflow() -> None:
    assert not modules_after("from debcm import fit") & {"airflow", "deltalake", "polars", "av"}


def test_an_unknown_name_fails_as_in_any_module() -> None:
    with pytest.raises(AttributeError, match="module 'debcm' has no attribute 'Relase'"):
        debcm.Relase  # noqa: B018


def test_the_version_is_the_projects() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert debcm.__version__ == project["version"]


def test_the_page_lists_every_export() -> None:
    page = (CHECKOUT / "docs" / "python.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == EXPORTS


def test_the_wheel_holds_four_packages() -> None:
    setuptools = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = setuptools["packages"]["find"]
    assert found["include"] == ["debcm*", "pipeline*", "features*", "models*"]
    assert not found["namespaces"]


@pytest.mark.parametrize("package", ["debcm", "pipeline", "features", "models"])
def test_type_checkers_may_read_the_package(package: str) -> None:
    assert (CHECKOUT / package / "py.typed").exists()
    setuptools = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "py.typed" in setuptools["package-data"][package]
