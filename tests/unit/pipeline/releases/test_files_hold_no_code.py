"""No file of a run, checkpoints included, contains a pickle, which could execute code."""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import struct
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import faiss
import onnx
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file

from models import train_student, train_teacher
from pipeline.context import Context
from pipeline.reporting import report
from pipeline.training.dataset import load_dataset

# How each kind of file is read.
OPENED: dict[str, Callable[[Path], object]] = {
    ".json": lambda path: [json.loads(line) for line in lines(path)],
    ".safetensors": lambda path: load_file(path),
    ".parquet": lambda path: pq.read_table(path),
    ".onnx": lambda path: onnx.checker.check_model(path),
    ".faiss": lambda path: faiss.read_index(str(path)),
    ".md": lambda path: path.read_text(encoding="utf-8"),
    ".html": lambda path: path.read_text(encoding="utf-8"),
}


def lines(path: Path) -> list[str]:
    """Split a table's log, which has one document per line; other files are one document."""
    text = path.read_text(encoding="utf-8")
    return text.splitlines() if path.parent.name == "_delta_log" else [text]


def holds_pickle(content: bytes) -> bool:
    """Whether `pickle.load` or `torch.load` would start to execute the content."""
    if zipfile.is_zipfile(io.BytesIO(content)):
        return True
    try:
        return sum(1 for _ in pickletools.genops(content)) > 0
    except (ValueError, IndexError, struct.error, DeprecationWarning):
        return content.startswith(b"\x80")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_are_detected(protocol: int) -> None:
    assert holds_pickle(pickle.dumps({"weights": [1.0]}, protocol))


def test_files_of_torch_save_are_detected(tmp_path: Path) -> None:
    for zipped in (True, False):
        torch.save({"a": torch.ones(2)}, tmp_path / "a", _use_new_zipfile_serialization=zipped)
        assert holds_pickle((tmp_path / "a").read_bytes())


def test_no_file_of_a_run_contains_a_pickle(published, tmp_path: Path) -> None:
    data = load_dataset(published.store, published.run_id).training
    config = published.settings.model.model_copy(update={"epochs": 1, "teacher_epochs": 1})
    teacher = train_teacher(data, config, tmp_path / "teacher-checkpoint")
    train_student(data, teacher, config, tmp_path / "student-checkpoint")
    report.run(Context(published.settings), published.run_id)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    for path in files:
        assert not holds_pickle(path.read_bytes()), path
        OPENED[path.suffix](path)
    seen = Counter(path.suffix for path in files)
    assert seen.keys() == OPENED.keys()
    checkpoints = [path for path in files if path.parent.name.startswith("epoch-")]
    kept = {part for path in checkpoints for part in path.parts if part.endswith("-checkpoint")}
    assert kept == {"teacher-checkpoint", "student-checkpoint"}
