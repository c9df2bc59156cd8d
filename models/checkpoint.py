"""Checkpoints of training: one folder per epoch, written aside and renamed, never pickled."""

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

_TENSORS = "state.safetensors"
_STATE = "state.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """Where training stood after an epoch.

    Attributes:
        tensors: every tensor of network, optimiser and best weights, by name.
        history: one entry per finished epoch.
        best: the best validation metric so far, or None.
    """

    tensors: dict[str, Tensor]
    history: list[EpochLog]
    best: float | None


def fingerprint(*parts: str) -> str:
    """Return the sha256 over the parts, 64 hex digits: what a checkpoint belongs to."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def tensors_digest(tensors: dict[str, Tensor]) -> str:
    """Return the sha256 over names and bytes of tensors, 64 hex digits."""
    hasher = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        hasher.update(name.encode())
        hasher.update(value.detach().cpu().contiguous().numpy().data)
    return hasher.hexdigest()


def _sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write(folder: Path, belongs_to: str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint and drop older ones; at every moment one whole one exists.

    Args:
        folder: made if missing, in one that exists: where that has gone away, nothing is begun
            in its place.
        belongs_to: `fingerprint` of configuration, data and stage.
        checkpoint: what to keep.

    Raises:
        FileNotFoundError: the folder above is not there.
    """
    folder.mkdir(exist_ok=True)
    epoch = len(checkpoint.history)
    final = folder / f"epoch-{epoch:05d}"
    aside = folder / f".aside-{os.getpid()}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    tensors = {name: value.contiguous() for name, value in sorted(checkpoint.tensors.items())}
    save_file(tensors, aside / _TENSORS)
    state = {
        "belongs_to": belongs_to,
        "best": checkpoint.best,
        "history": [asdict(entry) for entry in checkpoint.history],
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
    """Return the last checkpoint of this very training, or None to start anew.

    A checkpoint of another configuration or other data, or one that is damaged, is left alone
    with a warning: an epoch costs less than a wrong one.

    Args:
        folder: given to `write`; may be missing.
        belongs_to: `fingerprint` of configuration, data and stage.
    """
    kept = sorted(folder.glob("epoch-*"))
    if not kept:
        return None
    last = kept[-1]
    try:
        state = json.loads((last / _STATE).read_text(encoding="utf-8"))
        tensors = load_file(last / _TENSORS)
        damaged = state["tensors"] != tensors_digest(tensors)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        logger.warning("checkpoint %s cannot be read (%s): training starts anew", last, error)
        return None
    if damaged:
        logger.warning("checkpoint %s is damaged: training starts anew", last)
        return None
    if state["belongs_to"] != belongs_to:
        logger.warning(
            "checkpoint %s belongs to other data or another configuration: training starts anew",
            last,
        )
        return None
    history = [EpochLog(**entry) for entry in state["history"]]
    return Checkpoint(tensors, history, state["best"])


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimiser's state as flat named tensors: optimizer.<parameter>.<entry>."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{index}.{name}": value
        for index, entries in state.items()
        for name, value in entries.items()
    }


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `pack_optimizer` returned, among other tensors of a checkpoint."""
    described = optimizer.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": described["param_groups"]})
