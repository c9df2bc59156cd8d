"""deploy/ as far as it can be checked without a container engine or a cluster: by parsing it."""

from __future__ import annotations

import configparser
import json
import re
import runpy
import shutil
import subprocess
import tomllib
from collections.abc import Iterable
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline.settings.load import load_settings

CHECKOUT = Path(__file__).resolve().parents[2]
DEPLOY = CHECKOUT / "deploy"
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
(AIRFLOW,) = re.findall(r"apache-airflow\[.*?\]==([\d.]+)", " ".join(PROJECT["dependencies"]))


def airflow_options() -> set[tuple[str, str]]:
    """Every (section, option) that the installed Airflow and its Celery provider know.

    Read from their files: importing Airflow would make it a home.
    """
    found = find_spec("airflow")
    assert found is not None
    assert found.submodule_search_locations
    package = Path(found.submodule_search_locations[0])
    sections = yaml.safe_load((package / "config_templates" / "config.yml").read_text())
    celery = runpy.run_path(str(package / "providers" / "celery" / "get_provider_info.py"))
    sections |= celery["get_provider_info"]()["config"]
    return {(name, option) for name, section in sections.items() for option in section["options"]}


def unknown(named: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    return set(named) - airflow_options()


def as_option(variable: str) -> tuple[str, str]:
    _, section, option = variable.split("__")
    return section.lower(), option.lower()


def with_variables(text: str) -> str:
    """${NAME:-default} as its default, and ${NAME:?} as some path."""
    return re.sub(r"\$\{\w+:\?\}", "/srv/debcm", re.sub(r"\$\{\w+:-(.*?)\}", r"\1", text))


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "values.yaml").read_text())
    return found


def test_the_compose_file_is_one(compose: dict[str, Any]) -> None:
    compose_spec = pytest.importorskip("compose_spec")
    # The parser knows neither merge keys (<<) nor variables: both are resolved first.
    text = with_variables(yaml.safe_dump(compose))
    parsed = compose_spec.PyCompose.from_yaml(text)
    parsed.validate()
    services = {"postgres", "redis", "init", "api-server", "scheduler", "dag-processor"}
    assert set(parsed.service_names()) == services | {"triggerer", "worker"}
    with pytest.raises(ValueError, match="healthchek"):
        compose_spec.PyCompose.from_yaml(text.replace("healthcheck", "healthchek"))


def test_it_listens_on_loopback_and_holds_no_secret(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:8080:8080"]
    for service in compose["services"].values():
        assert re.fullmatch(r"[\w-]+:[\d.]+", service["image"])
        for name, value in service["environment"].items() if "environment" in service else ():
            if re.search("SECRET|PASSWORD|FERNET|CONN$|BACKEND", name):
                assert "${" in value, name


def test_nothing_but_the_code_can_enter_the_image() -> None:
    rules = [
        line
        for line in (CHECKOUT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    # All is left out, then the code is let in, then what may lie among the code is left out again.
    assert rules[0] == "*"
    let_in = [rule[1:] for rule in rules if rule.startswith("!")]
    for name in let_in:
        assert re.fullmatch(r"[\w./]+", name), f"{name}: a pattern could let in more than it says"
        assert (CHECKOUT / name).exists(), name
    assert {"debcm", "pipeline", "features", "models", "dags", "plugins"} <= set(let_in)
    left_out = [rule for rule in rules[1 + len(let_in) :] if not rule.startswith("!")]
    assert "**/.env*" in left_out
    assert len(rules) == 1 + len(let_in) + len(left_out)
    # The image is built from the checkout's root, where every builder looks for this file.
    assert not list(DEPLOY.glob("*.dockerignore"))


def test_the_image_has_the_packages_of_the_services_and_none_of_the_tests() -> None:
    """Fault 42: the image installed all packages of the lock."""
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    (extras,) = re.findall(r'--constraint requirements\.lock "\.\[([\w,]+)\]"', dockerfile)
    assert "--requirement" not in dockerfile
    assert set(extras.split(",")) == {"postgres", "celery", "s3", "lancedb"}
    optional = PROJECT["optional-dependencies"]
    assert set(optional) - set(extras.split(",")) == {"benchmarks", "services", "dev"}
    installed = closure([*PROJECT["dependencies"], f"debcm-pipeline[{extras}]"])
    locked = {
        canonicalize_name(line.split("==")[0])
        for line in (CHECKOUT / "requirements.lock").read_text().splitlines()
        if not line.startswith("#")
    }
    assert {"apache-airflow", "torch", "lancedb", "boto3", "psycopg2-binary"} <= installed
    assert installed - locked <= {"debcm-pipeline", "setuptools"}
    assert not installed & {
        "pytest",
        "mypy",
        "ruff",
        "moto",
        "playwright",
        "pgserver",
        "eva-decord",
    }


def closure(requirements: Iterable[str]) -> set[str]:
    """Return the names of packages and of all that they need, as they are installed here."""
    found: set[tuple[str, frozenset[str]]] = set()
    left = [Requirement(text) for text in requirements]
    while left:
        package = left.pop()
        name, extras = canonicalize_name(package.name), frozenset(package.extras)
        if (name, extras) in found:
            continue
        found.add((name, extras))
        for text in distribution(name).requires or []:
            needed = Requirement(text)
            choices = [{"extra": extra} for extra in ("", *extras)]
            if needed.marker is None or any(map(needed.marker.evaluate, choices)):
                left.append(needed)
    return {name for name, _ in found}


@pytest.mark.parametrize("written", ["deploy/.env", ".env", "debcm.toml", "demo/lake", ".airflow/"])
def test_git_ignores_what_holds_secrets_and_what_the_demo_writes(written: str) -> None:
    if shutil.which("git") is None or not (CHECKOUT / ".git").exists():
        pytest.skip("not a clone, or no git")
    # A clone of another user's is refused unless it is called safe.
    command = ["git", "-c", f"safe.directory={CHECKOUT}", "check-ignore", "--quiet", written]
    assert subprocess.run(command, cwd=CHECKOUT, check=False).returncode == 0


def test_the_environment_file_that_the_page_has_written_is_what_compose_asks_for(
    compose: dict[str, Any],
) -> None:
    page = (DEPLOY / "README.md").read_text()
    (block,) = re.findall(r"cat > deploy/.env\) <<EOF\n(.*?)\nEOF", page, re.DOTALL)
    written = {line.split("=")[0] for line in block.splitlines()}
    needed = set(re.findall(r"\$\{(\w+):\?\}", yaml.safe_dump(compose)))
    assert written == needed
    # A name of that kind, exported, would be taken for a setting.
    assert not [name for name in written if name.startswith("DEBCM_")]


def test_every_variable_of_it_exists(
    compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = compose["x-airflow"]["environment"]
    assert unknown(as_option(name) for name in variables if name.startswith("AIRFLOW__")) == set()
    for name, value in variables.items():
        if name.startswith("DEBCM_"):
            monkeypatch.setenv(name, with_variables(value))
    settings = load_settings()
    assert settings.lake.root == "/data/lake"
    assert settings.landing.root == Path("/data/landing")


def test_every_option_of_a_checkout_exists() -> None:
    config = configparser.RawConfigParser()
    config.read(CHECKOUT / "airflow.cfg")
    assert unknown((name, key) for name in config.sections() for key in config[name]) == set()


def test_the_helm_values_name_fields_of_the_chart(values: dict[str, Any]) -> None:
    schema = json.loads((DEPLOY / "values.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(values, schema)
    with pytest.raises(jsonschema.ValidationError, match="executer"):
        jsonschema.validate(values | {"executer": "LocalExecutor"}, schema)


def test_the_helm_values_set_options_and_settings_that_exist(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ((name, key) for name, section in values["config"].items() for key in section)
    assert unknown(options) == set()
    for variable in values["env"]:
        if variable["name"].startswith("DEBCM_"):
            monkeypatch.setenv(variable["name"], variable["value"])
    assert load_settings().lake.root.startswith("s3://")
    (mount,) = values["volumeMounts"]
    assert str(load_settings().landing.root) == mount["mountPath"]


def test_versions_are_those_of_the_project(compose: dict[str, Any], values: dict[str, Any]) -> None:
    assert f"apache/airflow:slim-{AIRFLOW}-python3.11" in (DEPLOY / "Dockerfile").read_text()
    assert values["airflowVersion"] == AIRFLOW
    assert values["defaultAirflowTag"] == PROJECT["version"]
    assert compose["x-airflow"]["image"] == f"debcm-pipeline:{PROJECT['version']}"
