"""The architecture of docs/design.md: who may import whom, and where tests and files belong."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
MAY_IMPORT = {
    "dags": {"pipeline"},
    "plugins": {"pipeline"},
    "debcm": {"debcm", "pipeline", "features", "models"},
    "pipeline": {"pipeline", "features", "models"},
    "features": {"features"},
    "models": {"models"},
    "simulation": {"simulation", "pipeline", "features", "models"},
    "benchmarks": {"benchmarks", "simulation", "pipeline", "features", "models"},
    "tools": {"tools", "pipeline", "features", "models"},
    "examples": {"debcm"},
}
# A room imports itself and the rooms before it. A name is a folder or a module of the package.
ROOMS = {
    "pipeline": (
        *("environment", "moved", "errors", "settings", "storage", "lake", "context"),
        *("ingestion", "extraction", "releases", "training", "publishing", "upkeep"),
        *("orchestration", "reporting", "steps", "cli"),
    ),
    "features": (
        *("environment", "arrays", "errors", "config", "results", "container", "networks"),
        *("video", "sound", "probe", "workers"),
    ),
}
NOT_FOR = {
    "features": {"airflow", "polars", "deltalake", "torch"},
    "models": {"airflow", "polars", "deltalake", "av", "cv2", "librosa"},
}
# EfficientNet-Lite0 is exported in a process of its own: only these modules import torch.
EXCEPTIONS = {(f"features/networks/{name}.py", "torch") for name in ("lite0", "torch_onnx")}
LONGEST_FILE = 450


def python_files(*folders: str) -> list[Path]:
    files = [path for folder in folders for path in sorted((CHECKOUT / folder).rglob("*.py"))]
    assert files, folders
    return files


def imported(path: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_in_one_direction(package: str) -> None:
    broken = [
        f"{path.relative_to(CHECKOUT)} imports {name}"
        for path in python_files(package)
        for name in packages(path) & (MAY_IMPORT.keys() | {"tests"}) - MAY_IMPORT[package]
    ]
    assert not broken


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_in_one_direction(package: str) -> None:
    order = ROOMS[package]
    broken = []
    for path in python_files(package):
        room = path.relative_to(CHECKOUT / package).with_suffix("").parts[0]
        if room == "__init__":
            continue
        assert room in order, f"{path} is in no room of ROOMS"
        for name in imported(path):
            parts = name.split(".")
            inside = parts[0] == package and parts[1] in order
            if inside and order.index(parts[1]) > order.index(room):
                broken.append(f"{path.relative_to(CHECKOUT)} imports {name}")
    assert not broken


@pytest.mark.parametrize("package", ["pipeline", "features", "models", "simulation"])
def test_modules_import_each_other_without_a_cycle(package: str) -> None:
    modules = {module_of(path): path for path in python_files(package)}
    graph = {
        module: {
            known
            for name in imported(path)
            for known in (name, name.rpartition(".")[0])
            if known in modules and known not in {module, package}
        }
        for module, path in modules.items()
        if module != package
    }
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("package", NOT_FOR)
def test_pure_packages_know_no_tables_and_no_airflow(package: str) -> None:
    broken = {
        (path.relative_to(CHECKOUT).as_posix(), name)
        for path in python_files(package)
        for name in packages(path) & NOT_FOR[package]
    }
    assert broken <= EXCEPTIONS


def test_nothing_is_unpickled_or_evaluated() -> None:
    for path in python_files(*MAY_IMPORT):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert not packages(path) & {"pickle", "dill", "joblib", "shelve", "marshal"}, path
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec"}, f"{path}:{node.lineno}"
            if isinstance(node, ast.keyword):
                allowed = node.arg != "allow_pickle" or not ast.literal_eval(node.value)
                assert allowed, f"{path}:{node.value.lineno}"


def test_files_have_one_subject() -> None:
    long = {
        path.relative_to(CHECKOUT).as_posix(): lines
        for path in python_files(*MAY_IMPORT)
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > LONGEST_FILE
    }
    assert not long


MIRRORED = ("pipeline", "features", "models", "simulation", "tools", "debcm")
UNIT = CHECKOUT / "tests" / "unit"
# Modules without a test file of their own: declarations only, or run by another module's tests.
TESTED_BY_OTHERS = {
    "pipeline.lake.codes": "declarations",
    "features.arrays": "declarations",
    "features.workers.job": "declarations",
    "models.arrays": "declarations",
    "simulation.styles": "declarations: test_music plays the styles",
    "tools.screenshots": "needs Chromium and an Airflow with finished DAG runs; run by hand",
}


def is_test_of(test: Path, module: Path) -> bool:
    return f"{test.stem}_".startswith(f"test_{module.stem}_")


def test_every_test_file_lies_beside_a_module_of_its_name() -> None:
    strays = []
    for package in MIRRORED:
        for test in sorted((UNIT / package).rglob("test_*.py")):
            room = CHECKOUT / test.parent.relative_to(UNIT)
            if not any(is_test_of(test, module) for module in room.glob("*.py")):
                strays.append(test.relative_to(CHECKOUT).as_posix())
    assert not strays


def test_every_module_has_a_test_file() -> None:
    untested = set()
    for path in python_files(*MIRRORED):
        if path.stem == "__init__":
            continue
        folder = UNIT / path.parent.relative_to(CHECKOUT)
        if not any(is_test_of(test, path) for test in folder.glob("test_*.py")):
            untested.add(module_of(path))
    assert untested == TESTED_BY_OTHERS.keys()
