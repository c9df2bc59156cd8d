"""Trains one stage: seeded steps, one optimiser, a checkpoint per epoch."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from models import checkpoint as checkpoints
from models import metrics
from models.arrays import Int64Array
from models.config import ModelConfig
from models.data import Picks, TrainingData
from models.distributed import rank, world_size
from models.model import EpochLog, Model
from models.setup import seed_of
from models.teacher_cache import take
from models.variant import Network, Objective, Stage, device_of

OnEpoch = Callable[[EpochLog], None]

# Length of the list whose weighted recall selects an epoch, as in the paper.
SELECTION_CUTOFF = 25

# Batches are made smaller until an epoch has this many steps: with one step per epoch, the default
# dozen of epochs would be a dozen steps.
_MIN_STEPS = 4

# Batches are not made smaller than this: in-batch negatives would be too few.
_MIN_STEP_ROWS = 64

_MAX_VALIDATION_ROWS = 4096
_MAX_GRADIENT_NORM = 5.0

# Learning rate of the explaining parameters, relative to that of the other weights: they are few
# and move by whole units.
_EXPLAINING_RATE = 20.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What a stage's training consists of.

    Attributes:
        stage: teacher or student.
        rows: number of training pairs, which every epoch shuffles.
        batch_size: rows per step, over all processes; reduced if rows are few.
        epochs: passes over the rows.
        learning_rate: highest learning rate.
        learning_rate_factor: from (step, total steps) to a factor of the learning rate.
    """

    stage: Stage
    rows: int
    batch_size: int
    epochs: int
    learning_rate: float
    learning_rate_factor: Callable[[int, int], float]


class _State:
    """Everything that a training changes: weights, optimiser, best epoch, training log."""

    def __init__(self, network: Network, plan: Plan, config: ModelConfig) -> None:
        self.network = network
        explaining = network.explaining_parameters()
        ids = {id(parameter) for parameter in explaining}
        others = [p for p in network.parameters() if id(p) not in ids]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in others if p.requires_grad], "rate": 1.0},
                {"params": [p for p in explaining if p.requires_grad], "rate": _EXPLAINING_RATE},
            ],
            lr=plan.learning_rate,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.best: dict[str, Tensor] = {}
        self.best_metric: float | None = None
        self.training_log: list[EpochLog] = []

    def weights(self) -> dict[str, Tensor]:
        """Return a copy of the current weights."""
        return {name: value.clone() for name, value in self.network.state_dict().items()}

    def pack(self) -> checkpoints.Checkpoint:
        """Return the state as a checkpoint."""
        tensors = {f"network.{name}": v for name, v in self.network.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        tensors |= checkpoints.pack_optimizer(self.optimizer)
        kept = {name: value.detach().cpu().clone() for name, value in tensors.items()}
        return checkpoints.Checkpoint(kept, self.training_log, self.best_metric)

    def unpack(self, found: checkpoints.Checkpoint) -> None:
        """Restore the state from a checkpoint."""

        def part(prefix: str) -> dict[str, Tensor]:
            names = [name for name in found.tensors if name.startswith(prefix)]
            return {name.removeprefix(prefix): found.tensors[name] for name in names}

        self.network.load_state_dict(part("network."))
        device = device_of(self.network)
        self.best = {name: value.to(device) for name, value in part("best.").items()}
        checkpoints.unpack_optimizer(self.optimizer, found.tensors)
        self.best_metric = found.best
        self.training_log = found.training_log


def run(
    plan: Plan,
    objective: Objective,
    data: TrainingData,
    config: ModelConfig,
    checkpoint: Path | None,
    belongs_to: str,
    on_epoch: OnEpoch | None,
) -> Model:
    """Train the objective's network for the remaining epochs of a plan.

    Args:
        plan: stage, epochs and steps.
        objective: with the network, which is changed in place.
        data: features and picks; validation picks are scored after each epoch of a student.
        config: variant and switches.
        checkpoint: folder to save each epoch in and to resume from, or None.
        belongs_to: fingerprint of configuration, data and stage; other checkpoints are ignored.
        on_epoch: called after each epoch.

    Returns:
        The model with the weights of the last epoch or, with `select = "best"`, of the best one.

    Raises:
        FloatingPointError: a loss is not finite.
    """
    network = objective.network
    state = _State(network, plan, config)
    found = checkpoints.read(checkpoint, belongs_to) if checkpoint else None
    if found is not None:
        state.unpack(found)
        log.info("%s: resuming after epoch %d", plan.stage, len(state.training_log))
    step_module = _distribute(objective)
    for epoch in range(len(state.training_log), plan.epochs):
        started = time.perf_counter()
        mean_losses = _run_epoch(plan, epoch, objective, step_module, state, config)
        metric = _validate(network, data) if plan.stage is Stage.STUDENT else None
        _keep_if_best(state, metric, config)
        entry = EpochLog(plan.stage, epoch, mean_losses, metric, time.perf_counter() - started)
        state.training_log.append(entry)
        log.info("%s", entry)
        if checkpoint and rank() == 0:
            checkpoints.write(checkpoint, belongs_to, state.pack())
        if on_epoch is not None:
            on_epoch(entry)
    chosen = state.best if config.select == "best" and state.best else state.weights()
    network.load_state_dict(chosen)
    sizes = (data.video.shape[1], data.music.shape[1], data.n_groups)
    return Model(network.eval(), config, *sizes, training_log=list(state.training_log))


def _distribute(objective: Objective) -> nn.Module:
    """Wrap the objective so that gradients are averaged over the processes, if several train."""
    if world_size() > 1:
        return DistributedDataParallel(objective)
    return objective


def _steps(plan: Plan, config: ModelConfig, epoch: int) -> list[Int64Array]:
    """Return this process's rows of every step: a seeded order, whole batches only.

    The rows of a last, smaller batch are left out of this epoch, unless it is the only batch.
    """
    order = np.random.default_rng([config.seed, epoch, plan.stage.position]).permutation(plan.rows)
    size = min(plan.batch_size, max(plan.rows // _MIN_STEPS, _MIN_STEP_ROWS), plan.rows)
    size -= size % world_size()
    starts = range(0, plan.rows - size + 1, size)
    return [order[start : start + size][rank() :: world_size()] for start in starts]


def _run_epoch(
    plan: Plan,
    epoch: int,
    objective: Objective,
    step_module: nn.Module,
    state: _State,
    config: ModelConfig,
) -> dict[str, float]:
    """Train one epoch and return its mean losses.

    Its randomness depends only on seed, stage and epoch, so that a resumed training continues
    exactly as if it had not stopped.
    """
    steps = _steps(plan, config, epoch)
    totals: dict[str, Tensor] = {}
    state.network.train()
    device = device_of(state.network)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed_of(config.seed, plan.stage.position, epoch, rank()))
        for number, rows in enumerate(steps):
            factor = plan.learning_rate_factor(
                epoch * len(steps) + number, plan.epochs * len(steps)
            )
            for group in state.optimizer.param_groups:
                group["lr"] = plan.learning_rate * factor * group["rate"]
            with torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
                found: dict[str, Tensor] = step_module(rows)
                parts = [objective.weights[name] * value for name, value in found.items()]
                loss = torch.stack(parts).sum()
            state.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            trained = [p for p in state.network.parameters() if p.requires_grad]
            nn.utils.clip_grad_norm_(trained, _MAX_GRADIENT_NORM)
            state.optimizer.step()
            for name, value in found.items():
                totals[name] = totals.get(name, torch.zeros_like(value)) + value.detach()
    means = {name: float(total) / len(steps) for name, total in totals.items()}
    bad = [name for name, mean in means.items() if not math.isfinite(mean)]
    if bad:
        raise FloatingPointError(
            f"the loss {bad[0]!r} of {plan.stage} epoch {epoch} is {means[bad[0]]}.\n"
            "Lower the learning rate, or look for extreme values in the features."
        )
    return means


def _validate(network: Network, data: TrainingData) -> float | None:
    """Return the selection metric of at most 4,096 validation picks; None without any."""
    if not len(data.validation):
        return None
    step = -(-len(data.validation) // _MAX_VALIDATION_ROWS)
    rows = np.arange(0, len(data.validation), step)
    return selection_metric(network, data, data.validation, rows)


@torch.no_grad()
def selection_metric(network: Network, data: TrainingData, picks: Picks, rows: Int64Array) -> float:
    """Return inverse-popularity-weighted Recall@25 over the full catalogue, in 0..1.

    Args:
        network: left in eval mode.
        data: features.
        picks: observed picks.
        rows: int64[n], rows of `picks`.
    """
    network.eval()
    device = device_of(network)
    group = torch.from_numpy(data.genre_group).to(device)
    music = network.embed_music(take(data.music, np.arange(len(data.music)), device), group)
    video = network.embed_video(take(data.video, picks.video[rows], device))
    scores = (video @ music.T).float().cpu().numpy()
    hits = metrics.recall_at_k(scores, picks.music[rows], SELECTION_CUTOFF)
    weights = metrics.inverse_popularity_weights(picks.music[rows], len(data.music))
    return float((hits * weights).sum())


def _keep_if_best(state: _State, metric: float | None, config: ModelConfig) -> None:
    if config.select != "best" or metric is None:
        return
    if state.best_metric is None or metric > state.best_metric:
        state.best_metric = metric
        state.best = state.weights()
