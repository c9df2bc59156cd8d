"""Writes and reads checkpoints: a folder per epoch, written aside and renamed, without pickle."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.model import EpochLog
from models.tensor_files import mode_by_umask
from models.variant import Stage

_TENSORS = "state.safetensors"
_STATE = "state.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after an epoch.

    Attributes:
        tensors: all tensors of network, optimiser and best weights, by name.
        training_log: one entry per finished epoch.
        best: the best validation metric so far, or None.
    """

    tensors: dict[str, Tensor]
    training_log: list[EpochLog]
    best: float | None


def fingerprint(*parts: str) -> str:
    """Return the sha256 of the parts, 64 hex digits; identifies the training of a checkpoint."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def tensors_digest(tensors: dict[str, Tensor]) -> str:
    """Return the sha256 of names and bytes of tensors, 64 hex digits."""
    hasher = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        hasher.update(name.encode())
        hasher.update(value.detach().cpu().contiguous().numpy().data)
    return hasher.hexdigest()


def _sync(path: Path) -> None:
    """Flush a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write(folder: Path, belongs_to: str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, then remove older ones; a complete one exists at every moment.

    Args:
        folder: created if missing. Its parent is not created, because it may be on a disk that was
            unmounted.
        belongs_to: `fingerprint` of configuration, data and stage.
        checkpoint: the state to write.

    Raises:
        FileNotFoundError: the parent folder is missing.
    """
    folder.mkdir(exist_ok=True)
    epoch = len(checkpoint.training_log)
    final = folder / f"epoch-{epoch:05d}"
    aside = folder / f".aside-{os.getpid()}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    tensors = {name: value.contiguous() for name, value in sorted(checkpoint.tensors.items())}
    with mode_by_umask(aside / _TENSORS) as path:
        save_file(tensors, path)
    state = {
        "belongs_to": belongs_to,
        "best": checkpoint.best,
        "history": [asdict(entry) for entry in checkpoint.training_log],
        "tensors": tensors_digest(tensors),
    }
    (aside / _STATE).write_text(json.dumps(state, sort_keys=True) + "\n", encoding="utf-8")
    for path in (aside / _TENSORS, aside / _STATE, aside):
        _sync(path)
    if final.exists():
        shutil.rmtree(final)
    aside.rename(final)
    _sync(folder)
    for old in folder.glob("epoch-*"):
        if old != final:
            shutil.rmtree(old)
    for left in folder.glob(".aside-*"):
        shutil.rmtree(left)


def read(folder: Path, belongs_to: str) -> Checkpoint | None:
    """Return the last checkpoint of the same training, or None if there is none to resume from.

    A damaged checkpoint, and one of another configuration or other data, is ignored with a
    warning: training again costs less than continuing from wrong weights.

    Args:
        folder: given to `write`; may be missing.
        belongs_to: `fingerprint` of configuration, data and stage.
    """
    found = sorted(folder.glob("epoch-*"))
    if not found:
        return None
    last = found[-1]
    try:
        state = json.loads((last / _STATE).read_text(encoding="utf-8"))
        tensors = load_file(last / _TENSORS)
        damaged = state["tensors"] != tensors_digest(tensors)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        log.warning("training starts again: checkpoint %s cannot be read (%s)", last, error)
        return None
    if damaged:
        log.warning("training starts again: checkpoint %s is damaged", last)
        return None
    if state["belongs_to"] != belongs_to:
        log.warning(
            "training starts again: checkpoint %s is from other data or another configuration",
            last,
        )
        return None
    training_log = [
        EpochLog(**entry | {"stage": Stage(entry["stage"])}) for entry in state["history"]
    ]
    return Checkpoint(tensors, training_log, state["best"])


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimiser's state as tensors named optimizer.<parameter>.<entry>."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{index}.{name}": value
        for index, entries in state.items()
        for name, value in entries.items()
    }


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restore an optimiser's state from a checkpoint's tensors, named as by `pack_optimizer`."""
    described = optimizer.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": described["param_groups"]})
