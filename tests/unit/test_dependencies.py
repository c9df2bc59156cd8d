"""Every imported package is declared, every declared one is used, and docs name them all."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDERS = (
    *("dags", "plugins", "debcm", "pipeline", "features", "models"),
    *("simulation", "benchmarks", "tools", "examples", "tests"),
)
# Module -> its package, where the names differ.
PACKAGE_OF = {
    "_pytest": "pytest",
    "cv2": "opencv-python-headless",
    "decord": "eva-decord",
    "faiss": "faiss-cpu",
    "opentelemetry": "opentelemetry-proto",
    "psycopg2": "psycopg2-binary",
    "yaml": "pyyaml",
}
# Declared packages that nothing imports -> what runs them.
RUN_BY = {
    "onnxscript": "torch.onnx.export",
    "apache-airflow-providers-openlineage": "Airflow, as a listener",
    "apache-airflow-providers-postgres": "Airflow, by its connection URL",
    "apache-airflow-providers-celery": "Airflow, by [core] executor",
    "celery": "the Celery executor",
    "mypy": "make lint",
    "pre-commit": "git",
    "pytest-socket": "pytest",
    "pytest-xdist": "pytest",
    "ruff": "make lint",
    "types-tqdm": "mypy",
}


def declared() -> set[str]:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    lines = [*project["dependencies"], *(line for lines in extras for line in lines)]
    return {re.split(r"[\[<>=!~ ]", line)[0].lower() for line in lines}


def modules(tree: ast.AST) -> Iterator[str]:
    """Yield the dotted names of imported modules, including those of pytest.importorskip."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield str(node.module)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.importorskip":
            yield str(ast.literal_eval(node.args[0]))


def package_of(module: str) -> str:
    top, *below = module.split(".")
    if top == "airflow":
        return (
            f"apache-airflow-providers-{below[1]}"
            if below[:1] == ["providers"]
            else "apache-airflow"
        )
    return PACKAGE_OF.get(top, top.replace("_", "-"))


def imported() -> dict[str, str]:
    """Return package -> a file that imports it."""
    files = [path for folder in FOLDERS for path in sorted((CHECKOUT / folder).rglob("*.py"))]
    found: dict[str, str] = {}
    for path in files:
        for module in modules(ast.parse(path.read_text(encoding="utf-8"))):
            top = module.split(".")[0]
            if top not in sys.stdlib_module_names and top not in FOLDERS:
                found.setdefault(package_of(module), str(path.relative_to(CHECKOUT)))
    return found


def test_every_imported_package_is_declared() -> None:
    undeclared = {name: file for name, file in imported().items() if name not in declared()}
    assert not undeclared


def test_every_declared_package_is_imported_or_run() -> None:
    assert declared() - imported().keys() == RUN_BY.keys()


def test_the_page_names_every_package_once() -> None:
    page = (CHECKOUT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([a-z0-9-]+) \| \S", page, re.MULTILINE)
    named = [name for name in rows if name != "package"]
    assert len(named) == len(set(named))
    assert set(named) == declared()
