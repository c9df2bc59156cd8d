"""Trains a tiny world in one process: `train_one_process.py RANK WORLD RENDEZVOUS OUT`.

RENDEZVOUS is a file by which the processes find each other; OUT gets losses and digest of weights.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import distributed

from models import EpochLog, ModelConfig, fit
from models.checkpoint import tensors_digest
from simulation.dataset import make_data
from simulation.world import WorldConfig, make_world

SMALL = {"n_videos": 360, "n_music": 60, "n_uploaders": 20, "n_pgc": 40, "knowledge": 0.2}
CONFIG = ModelConfig(
    dim=8,
    hidden=16,
    epochs=3,
    teacher_epochs=3,
    batch_size=64,
    teacher_batch_size=60,
    dropout=0.0,
    teacher_dropout=0.0,
)


def train(
    checkpoint: Path | None = None, on_epoch: Callable[[EpochLog], None] | None = None
) -> dict[str, object]:
    """Train, and return the losses of every epoch and the digest of the weights."""
    training = make_data(make_world(WorldConfig(**SMALL))).training
    model = fit(training, CONFIG, checkpoint, on_epoch)
    losses = [log.losses for log in model.training_log]
    return {"losses": losses, "weights": tensors_digest(model.network.state_dict())}


if __name__ == "__main__":
    rank, world = int(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=Path(sys.argv[3]).as_uri(), rank=rank, world_size=world
    )
    found = train()
    Path(sys.argv[4]).write_text(json.dumps(found), encoding="utf-8")
    distributed.destroy_process_group()
