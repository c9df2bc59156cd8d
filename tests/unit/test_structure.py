"""The walls of docs/design.md: who may import whom, and what no file may hold."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
OURS = {"pipeline", "features", "models", "simulation", "dags", "benchmarks"}
MAY_IMPORT = {
    "dags": {"pipeline"},
    "pipeline": {"pipeline", "features", "models"},
    "features": {"features"},
    "models": {"models"},
    "simulation": {"simulation", "pipeline", "features", "models"},
    "benchmarks": {"benchmarks", "simulation", "pipeline", "features", "models"},
}
NOT_FOR = {
    "features": {"airflow", "polars", "deltalake", "torch"},
    "models": {"airflow", "polars", "deltalake", "av", "cv2", "librosa"},
}
# The exports of the packaged networks, run in processes of their own, are all that needs torch.
EXCEPTIONS = {(f"features/{name}.py", "torch") for name in ("lite0", "musicnn", "torch_onnx")}


def python_files(*folders: str) -> list[Path]:
    files = [path for folder in folders for path in sorted((CHECKOUT / folder).rglob("*.py"))]
    assert files, folders
    return files


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_go_one_way(package: str) -> None:
    broken = [
        f"{path.relative_to(CHECKOUT)} imports {name}"
        for path in python_files(package)
        for name in set(imports(path)) & OURS - MAY_IMPORT[package]
    ]
    assert not broken


@pytest.mark.parametrize("package", NOT_FOR)
def test_pure_packages_know_no_tables_and_no_airflow(package: str) -> None:
    broken = {
        (path.relative_to(CHECKOUT).as_posix(), name)
        for path in python_files(package)
        for name in set(imports(path)) & NOT_FOR[package]
    }
    assert broken <= EXCEPTIONS


def test_nothing_is_unpickled_or_evaluated() -> None:
    for path in python_files(*MAY_IMPORT):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert not set(imports(path)) & {"pickle", "dill", "joblib", "shelve", "marshal"}, path
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
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 450
    }
    assert not long
