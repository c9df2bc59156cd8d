"""The loop that trains every stage: seeded steps, one optimiser, a checkpoint an epoch."""

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
from models.distributed import rank, world
from models.model import EpochLog, Model
from models.networks import DebcmNetwork, Network, device_of
from models.objectives import Objective
from models.setup import STAGES, seed_of
from models.teacher_cache import take

OnEpoch = Callable[[EpochLog], None]

SELECTION_CUTOFF = 25
"""Length of the list whose weighted recall selects an epoch, as in the paper."""

_LEAST_STEPS = 4
"""Steps of an epoch of few rows: of one large step each, epochs are too few to learn from."""

_SMALLEST_STEP = 64
"""Rows that make no smaller step: in-batch negatives would be too few."""

_VALIDATION_ROWS = 4096
_WARM_UP = 0.1
_LARGEST_GRADIENT = 5.0
_FASTER = 20.0
"""Learning rate of the few explaining parameters, which move by whole units, over the rest's."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """One stage: its name, rows of an epoch and of a step, epochs, highest learning rate."""

    stage: str
    rows: int
    batch_size: int
    epochs: int
    learning_rate: float


def _rate(step: int, total: int) -> float:
    """Return the share of the highest learning rate: linear warm-up, then a cosine to zero."""
    warm = max(1, round(_WARM_UP * total))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


class _State:
    """What a training changes: weights, optimiser, best epoch, history."""

    def __init__(self, network: Network, plan: Plan, config: ModelConfig) -> None:
        self.network = network
        few = network.explanations() if isinstance(network, DebcmNetwork) else []
        ids = {id(each) for each in few}
        many = [each for each in network.parameters() if id(each) not in ids]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [each for each in many if each.requires_grad], "faster": 1.0},
                {"params": [each for each in few if each.requires_grad], "faster": _FASTER},
            ],
            lr=plan.learning_rate,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.best: dict[str, Tensor] = {}
        self.best_metric: float | None = None
        self.history: list[EpochLog] = []

    def result(self) -> dict[str, Tensor]:
        """Return a copy of the weights as they are now."""
        return {name: value.clone() for name, value in self.network.state_dict().items()}

    def pack(self) -> checkpoints.Checkpoint:
        """Return everything as a checkpoint."""
        tensors = {f"network.{name}": v for name, v in self.network.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        tensors |= checkpoints.pack_optimizer(self.optimizer)
        kept = {name: value.detach().cpu().clone() for name, value in tensors.items()}
        return checkpoints.Checkpoint(kept, self.history, self.best_metric)

    def unpack(self, found: checkpoints.Checkpoint) -> None:
        """Continue where a checkpoint stopped."""

        def part(prefix: str) -> dict[str, Tensor]:
            names = [name for name in found.tensors if name.startswith(prefix)]
            return {name.removeprefix(prefix): found.tensors[name] for name in names}

        self.network.load_state_dict(part("network."))
        device = device_of(self.network)
        self.best = {name: value.to(device) for name, value in part("best.").items()}
        checkpoints.unpack_optimizer(self.optimizer, found.tensors)
        self.best_metric = found.best
        self.history = found.history


def run(
    plan: Plan,
    objective: Objective,
    network: Network,
    data: TrainingData,
    config: ModelConfig,
    checkpoint: Path | None,
    belongs_to: str,
    on_epoch: OnEpoch | None,
) -> Model:
    """Run the epochs that are left and return the chosen weights as a model."""
    state = _State(network, plan, config)
    found = checkpoints.read(checkpoint, belongs_to) if checkpoint else None
    if found is not None:
        state.unpack(found)
        logger.info("%s: resuming after epoch %d", plan.stage, len(state.history))
    step_module = _distribute(objective)
    for epoch in range(len(state.history), plan.epochs):
        started = time.perf_counter()
        mean_losses = _epoch(plan, epoch, objective, step_module, state, config)
        metric = _validate(state, data, config) if plan.stage == "student" else None
        _select(state, metric, config)
        entry = EpochLog(plan.stage, epoch, mean_losses, metric, time.perf_counter() - started)
        state.history.append(entry)
        logger.info("%s", entry)
        if checkpoint and rank() == 0:
            checkpoints.write(checkpoint, belongs_to, state.pack())
        if on_epoch is not None:
            on_epoch(entry)
    chosen = state.best if config.select == "best" and state.best else state.result()
    network.load_state_dict(chosen)
    sizes = (data.video.shape[1], data.music.shape[1], data.n_groups)
    return Model(network.eval(), config, *sizes, history=list(state.history))


def _distribute(objective: Objective) -> nn.Module:
    """Wrap the objective so that gradients are averaged over processes, if there are any."""
    if world() > 1:
        return DistributedDataParallel(objective)
    return objective


def _steps(plan: Plan, config: ModelConfig, epoch: int) -> list[Int64Array]:
    """Return this process's rows of every step: a seeded order, whole batches only.

    A last, smaller batch is left to other epochs, unless it is the only one.
    """
    order = np.random.default_rng([config.seed, epoch, STAGES.index(plan.stage)]).permutation(
        plan.rows
    )
    size = min(plan.batch_size, max(plan.rows // _LEAST_STEPS, _SMALLEST_STEP), plan.rows)
    size -= size % world()
    starts = range(0, plan.rows - size + 1, size)
    return [order[start : start + size][rank() :: world()] for start in starts]


def _epoch(
    plan: Plan,
    epoch: int,
    objective: Objective,
    step_module: nn.Module,
    state: _State,
    config: ModelConfig,
) -> dict[str, float]:
    """Train one epoch; its randomness depends on seed, stage and number alone."""
    steps = _steps(plan, config, epoch)
    totals: dict[str, Tensor] = {}
    state.network.train()
    device = device_of(state.network)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed_of(config.seed, STAGES.index(plan.stage), epoch, rank()))
        for number, rows in enumerate(steps):
            rate = plan.learning_rate
            if config.variant == "debcm":
                rate *= _rate(epoch * len(steps) + number, plan.epochs * len(steps))
            for group in state.optimizer.param_groups:
                group["lr"] = rate * group["faster"]
            with torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
                found: dict[str, Tensor] = step_module(rows)
                parts = [objective.weights[name] * value for name, value in found.items()]
                loss = torch.stack(parts).sum()
            state.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            trained = [each for each in state.network.parameters() if each.requires_grad]
            nn.utils.clip_grad_norm_(trained, _LARGEST_GRADIENT)
            state.optimizer.step()
            for name, value in found.items():
                totals[name] = totals.get(name, torch.zeros_like(value)) + value.detach()
    means = {name: float(total) / len(steps) for name, total in totals.items()}
    bad = [name for name, mean in means.items() if not math.isfinite(mean)]
    if bad:
        raise FloatingPointError(
            f"{plan.stage} epoch {epoch}: loss {bad[0]} is {means[bad[0]]}: lower the learning "
            "rate or look for extreme features"
        )
    return means


def _validate(state: _State, data: TrainingData, config: ModelConfig) -> float | None:
    """Return inverse-popularity-weighted Recall@25 of validation picks, observed data only."""
    if not len(data.validation):
        return None
    step = -(-len(data.validation) // _VALIDATION_ROWS)
    rows = np.arange(0, len(data.validation), step)
    return selection_metric(state.network, data, data.validation, rows)


@torch.no_grad()
def selection_metric(network: Network, data: TrainingData, picks: Picks, rows: Int64Array) -> float:
    """Return inverse-popularity-weighted Recall@25 over the full catalogue.

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


def _select(state: _State, metric: float | None, config: ModelConfig) -> None:
    """Keep the weights if this epoch's metric is the best so far."""
    if config.select != "best" or metric is None:
        return
    if state.best_metric is None or metric > state.best_metric:
        state.best_metric = metric
        state.best = state.result()
