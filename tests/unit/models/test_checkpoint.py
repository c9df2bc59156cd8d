from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch

from models import checkpoint as checkpoints
from models.checkpoint import Checkpoint
from models.model import EpochLog
from models.variant import Stage


def state(epochs: int) -> Checkpoint:
    training_log = [
        EpochLog(Stage.STUDENT, epoch, {"picks": 0.1}, 0.5, 1.0) for epoch in range(epochs)
    ]
    return Checkpoint({"network.a": torch.full((3,), float(epochs))}, training_log, 0.5)


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    checkpoints.write(tmp_path, "mine", state(2))
    found = checkpoints.read(tmp_path, "mine")
    assert found is not None
    assert found.training_log == state(2).training_log
    assert found.best == 0.5
    assert torch.equal(found.tensors["network.a"], torch.full((3,), 2.0))


def test_only_the_last_epoch_is_kept(tmp_path: Path) -> None:
    for epoch in (1, 2, 12):
        checkpoints.write(tmp_path, "mine", state(epoch))
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-00012"]


def test_a_missing_parent_folder_is_not_created(tmp_path: Path) -> None:
    """The disk of the lake was unmounted."""
    folder = tmp_path / "lake" / "checkpoint"
    with pytest.raises(FileNotFoundError):
        checkpoints.write(folder, "mine", state(1))
    assert not any(tmp_path.iterdir())


def test_a_missing_folder_has_no_checkpoint(tmp_path: Path) -> None:
    assert checkpoints.read(tmp_path / "missing", "mine") is None


def test_the_checkpoint_of_another_training_is_ignored_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints.write(tmp_path, "mine", state(7))
    with caplog.at_level(logging.WARNING):
        assert checkpoints.read(tmp_path, "another's") is None
    assert "training starts again" in caplog.text
    checkpoints.write(tmp_path, "another's", state(1))
    found = checkpoints.read(tmp_path, "another's")
    assert found is not None
    assert len(found.training_log) == 1


@pytest.mark.parametrize("file", ["state.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_a_damaged_checkpoint_is_ignored_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str, damage: str
) -> None:
    checkpoints.write(tmp_path, "mine", state(3))
    path = tmp_path / "epoch-00003" / file
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        path.write_bytes(content[:-4] + bytes(byte ^ 1 for byte in content[-4:]))
    else:
        path.unlink()
    with caplog.at_level(logging.WARNING):
        assert checkpoints.read(tmp_path, "mine") is None
    assert "epoch-00003" in caplog.text


def test_a_killed_write_keeps_the_older_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints.write(tmp_path, "mine", state(1))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.write(tmp_path, "mine", state(2))
    found = checkpoints.read(tmp_path, "mine")
    assert found is not None
    assert len(found.training_log) == 1
    checkpoints.write(tmp_path, "mine", state(3))
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-00003"]


def test_the_optimizer_state_is_restored() -> None:
    def trained(steps: int) -> tuple[torch.nn.Linear, torch.optim.AdamW]:
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
        for _ in range(steps):
            layer(torch.ones(4, 3)).sum().backward()
            optimizer.step()
        return layer, optimizer

    _, optimizer = trained(3)
    packed = checkpoints.pack_optimizer(optimizer)
    assert len(packed) == 6
    _, fresh = trained(0)
    checkpoints.unpack_optimizer(fresh, packed | {"network.weight": torch.zeros(1)})
    again = checkpoints.pack_optimizer(fresh)
    assert packed.keys() == again.keys()
    for name, value in packed.items():
        assert torch.equal(value, again[name])


def test_the_state_file_is_plain_json(tmp_path: Path) -> None:
    checkpoints.write(tmp_path, "mine", state(1))
    read = json.loads((tmp_path / "epoch-00001" / "state.json").read_text())
    assert read["belongs_to"] == "mine"
    assert [entry["stage"] for entry in read["history"]] == ["student"]
