"""Files of tensors have the mode of any other new file (fault 38)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.tensor_files import mode_by_umask
from tests.helpers.umask import mode, umask

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_the_mode_follows_the_umask(tmp_path: Path, mask: int) -> None:
    file = tmp_path / "weights.safetensors"
    for value in (1.0, 2.0):  # new, then replaced
        with umask(mask), mode_by_umask(file) as path:
            save_file({"a": torch.full((2,), value)}, path)
        assert mode(file) == 0o666 & ~mask
        assert load_file(file)["a"].tolist() == [value, value]


def test_the_mode_of_a_private_file_is_not_inherited(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    file.touch(0o600)
    with mode_by_umask(file) as path:
        save_file({"a": torch.ones(2)}, path)
    (tmp_path / "other").touch()
    assert mode(file) == mode(tmp_path / "other")


@pytest.mark.parametrize("package", ["models", "pipeline"])
def test_every_save_file_is_inside_mode_by_umask(package: str) -> None:
    """The library writes files that only their owner can read."""
    for source in sorted((ROOT / package).rglob("*.py")):
        tree = ast.parse(source.read_text(encoding="utf-8"))
        wrapped = {
            id(node)
            for block in ast.walk(tree)
            if isinstance(block, ast.With) and "mode_by_umask" in ast.unparse(block.items[0])
            for node in ast.walk(block)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("save_file"):
                assert id(node) in wrapped, f"{source}:{node.lineno}"
