"""Training: one loop for teacher and student of every variant.

`fit` does both. Under torchrun (an initialised torch.distributed process group) the same
calls split each step's rows over the processes and average gradients (DDP).
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from models import checkpoint as checkpoints
from models import metrics
from models.config import ModelConfig
from models.data import Picks, TrainingData
from models.interpolation import interpolate
from models.model import EpochLog, Model
from models.networks import (
    DebcmNetwork,
    Network,
    VariationalNetwork,
    device_of,
)
from models.objectives import (
    Objective,
    PickChoice,
    SegmentContrast,
    VariationalMatch,
)
from models.preparation import STAGES, finish, network_for, population_of, seed_of
from models.taught import take

Ints = npt.NDArray[np.int64]
OnEpoch = Callable[[EpochLog], None]

SELECTION_CUTOFF = 25
"""Length of the list whose weighted recall selects an epoch, as in the paper."""

_VALIDATION_ROWS = 4096
_WARM_UP = 0.1
_LARGEST_GRADIENT = 5.0
_FASTER = 20.0
"""Learning rate of the few explaining parameters, which move by whole units, over the rest's."""

logger = logging.getLogger(__name__)


def fit(
    data: TrainingData,
    config: ModelConfig,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch | None = None,
) -> Model:
    """Train the teacher, where there is one, and the student.

    Args:
        data: features, picks and PGC pairs.
        config: variant and switches.
        checkpoint: folder to keep and resume the training in, or None.
        on_epoch: called after each epoch.

    Returns:
        The student; its history holds the teacher's epochs too.
    """
    teacher = None
    if config.teacher and config.distill != "none":
        if len(data.segment_video) > 1:
            folder = checkpoint / "teacher" if checkpoint else None
            teacher = train_teacher(data, config, folder, on_epoch)
        else:
            logger.warning(
                "%d PGC segments are too few to train a teacher: the student learns from "
                "uploaders' picks alone",
                len(data.segment_video),
            )
    folder = checkpoint / "student" if checkpoint else None
    student = train_student(data, teacher, config, folder, on_epoch)
    if teacher is not None:
        student.history[:0] = teacher.history
    return student


def train_teacher(
    data: TrainingData,
    config: ModelConfig,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch | None = None,
) -> Model:
    """Train a teacher on PGC segments.

    Args:
        data: at least two segments.
        config: variant and switches.
        checkpoint: folder to keep and resume the training in, or None.
        on_epoch: called after each epoch.

    Raises:
        ValueError: fewer than two segments: there is nothing to contrast.
    """
    if len(data.segment_video) < 2:
        raise ValueError(
            f"a teacher needs two PGC segments or more, got {len(data.segment_video)}: "
            "set teacher off or deliver music videos"
        )
    network = network_for(data, config, "teacher")
    objective: Objective
    if isinstance(network, DebcmNetwork):
        objective = SegmentContrast(network, data, config)
    else:
        objective = VariationalMatch(network, None, data, config, "teacher")
    plan = _Plan(
        "teacher",
        len(data.segment_video),
        config.teacher_batch_size,
        config.teacher_epochs,
        config.teacher_learning_rate,
    )
    belongs_to = _belongs_to(checkpoint, data, config, "teacher", {})
    return _train(plan, objective, network, data, config, checkpoint, belongs_to, on_epoch)


def train_student(
    data: TrainingData,
    teacher: Model | None,
    config: ModelConfig,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch | None = None,
) -> Model:
    """Train a student on uploaders' picks, guided by the teacher if there is one.

    Args:
        data: features and picks.
        teacher: of the same variant, not changed; not looked at with `config.teacher` off.
        config: variant and switches.
        checkpoint: folder to keep and resume the training in, or None.
        on_epoch: called after each epoch.

    Raises:
        ValueError: the teacher is of another variant.
    """
    network = network_for(data, config, "student")
    if teacher is not None and type(teacher.network) is not type(network):
        raise ValueError(
            f"a {config.variant} student cannot learn from a {teacher.config.variant} teacher"
        )
    taught = teacher.network if teacher is not None and config.teacher else None
    if isinstance(network, DebcmNetwork):
        network.centre_on(population_of(data).to(device_of(network)))
        if isinstance(taught, DebcmNetwork):
            network.start_from(taught)
    objective: Objective
    if isinstance(network, DebcmNetwork):
        objective = PickChoice(network, cast(DebcmNetwork | None, taught), data, config)
    else:
        frozen = cast(VariationalNetwork | None, taught)
        objective = VariationalMatch(network, frozen, data, config, "student")
    plan = _Plan("student", len(data.train), config.batch_size, config.epochs, config.learning_rate)
    guide = taught.state_dict() if taught is not None else {}
    belongs_to = _belongs_to(checkpoint, data, config, "student", guide)
    model = _train(plan, objective, network, data, config, checkpoint, belongs_to, on_epoch)
    if isinstance(network, DebcmNetwork):
        if isinstance(taught, DebcmNetwork) and config.interpolate and config.picks_weight > 0:
            model.share = interpolate(network, taught, data, config)
        finish(network, data, config)
    return model


@dataclass(frozen=True)
class _Plan:
    """One stage: its name, rows of an epoch and of a step, epochs, highest learning rate."""

    stage: str
    rows: int
    batch_size: int
    epochs: int
    learning_rate: float


def _belongs_to(
    checkpoint: Path | None,
    data: TrainingData,
    config: ModelConfig,
    stage: str,
    guide: dict[str, Tensor],
) -> str:
    """Return what a checkpoint is compared by; the data are only hashed if one is kept."""
    if checkpoint is None:
        return ""
    described = config.model_dump_json()
    return checkpoints.fingerprint(
        stage, described, data.digest(), checkpoints.tensors_digest(guide)
    )


def _rate(step: int, total: int) -> float:
    """Return the share of the highest learning rate: linear warm-up, then a cosine to zero."""
    warm = max(1, round(_WARM_UP * total))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


class _State:
    """What a training changes: weights, optimiser, best epoch, history."""

    def __init__(self, network: Network, plan: _Plan, config: ModelConfig) -> None:
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


def _train(
    plan: _Plan,
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
        if checkpoint and _rank() == 0:
            checkpoints.write(checkpoint, belongs_to, state.pack())
        if on_epoch is not None:
            on_epoch(entry)
    chosen = state.best if config.select == "best" and state.best else state.result()
    network.load_state_dict(chosen)
    sizes = (data.video.shape[1], data.music.shape[1], data.n_groups)
    return Model(network.eval(), config, *sizes, history=list(state.history))


def _rank() -> int:
    """Return this process's number; 0 when alone."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def _distribute(objective: Objective) -> nn.Module:
    """Wrap the objective so that gradients are averaged over processes, if there are any."""
    if distributed.is_initialized() and distributed.get_world_size() > 1:
        return DistributedDataParallel(objective)
    return objective


def _steps(plan: _Plan, config: ModelConfig, epoch: int) -> list[Ints]:
    """Return this process's rows of every step: a seeded order, whole batches only.

    A last, smaller batch is left to other epochs, unless it is the only one.
    """
    order = np.random.default_rng([config.seed, epoch, STAGES.index(plan.stage)]).permutation(
        plan.rows
    )
    size = min(plan.batch_size, plan.rows)
    world = distributed.get_world_size() if distributed.is_initialized() else 1
    size -= size % world
    starts = range(0, plan.rows - size + 1, size)
    return [order[start : start + size][_rank() :: world] for start in starts]


def _epoch(
    plan: _Plan,
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
        torch.manual_seed(seed_of(config.seed, STAGES.index(plan.stage), epoch, _rank()))
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
def selection_metric(network: Network, data: TrainingData, picks: Picks, rows: Ints) -> float:
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
