"""Files for contributors: the workflow, issue forms, owners and contacts."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
GITHUB = CHECKOUT / ".github"
YAML_FILES = sorted(GITHUB.rglob("*.yml"))
FORMS = [path for path in sorted(GITHUB.glob("ISSUE_TEMPLATE/*.yml")) if path.stem != "config"]


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def supported_pythons() -> list[str]:
    """Return the minor versions that requires-python allows."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    found = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project["requires-python"])
    assert found
    return [f"3.{minor}" for minor in range(int(found[1]), int(found[2]))]


def test_the_classifiers_name_every_supported_python() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    prefix = "Programming Language :: Python :: "
    named = [name.removeprefix(prefix) for name in project["classifiers"] if prefix in name]
    assert named == supported_pythons()


def workflow_job() -> dict[str, Any]:
    (job,) = read(GITHUB / "workflows" / "tests.yml")["jobs"].values()
    found: dict[str, Any] = job
    return found


def test_every_file_parses() -> None:
    assert len(YAML_FILES) == 4
    for path in YAML_FILES:
        assert read(path), path


def test_the_workflow_runs_on_every_supported_python() -> None:
    assert workflow_job()["strategy"]["matrix"]["python"] == supported_pythons()


def test_the_workflow_runs_lint_types_and_tests() -> None:
    commands = [step["run"] for step in workflow_job()["steps"] if "run" in step]
    assert commands == ["make install PYTHON=python", "make lint", "make test"]
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    lint = makefile.split("\nlint:")[1].split("\n\n")[0]
    assert "ruff check" in lint
    assert "mypy" in lint


def test_the_workflow_may_only_read() -> None:
    assert read(GITHUB / "workflows" / "tests.yml")["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_forms_ask_for_something(path: Path) -> None:
    form = read(path)
    assert form["name"]
    assert form["description"]
    ids = [item["id"] for item in form["body"] if item["type"] != "markdown"]
    assert len(ids) == len(set(ids)) > 2
    for item in form["body"]:
        assert item["type"] in {"markdown", "textarea", "input", "dropdown"}
        assert item["attributes"].get("label") or item["type"] == "markdown"
        assert item["type"] != "dropdown" or item["attributes"]["options"]
    assert any(item.get("validations", {}).get("required") for item in form["body"])


def test_owners_are_of_paths_that_exist() -> None:
    lines = (GITHUB / "CODEOWNERS").read_text(encoding="utf-8").splitlines()
    rules = [line.split() for line in lines if line and not line.startswith("#")]
    assert rules[0][0] == "*"
    for path, *owners in rules:
        assert path == "*" or (CHECKOUT / path.strip("/")).is_dir(), path
        assert owners
        assert all(re.fullmatch(r"@[\w-]+/[\w-]+", owner) for owner in owners), path


def test_security_reports_have_one_address() -> None:
    policy = (CHECKOUT / "SECURITY.md").read_text(encoding="utf-8")
    (address,) = set(re.findall(r"[\w.]+@[\w.-]+\w", policy))
    links = read(GITHUB / "ISSUE_TEMPLATE" / "config.yml")["contact_links"]
    assert [link["url"] for link in links] == [f"mailto:{address}"]
