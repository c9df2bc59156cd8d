"""How fast does training feed its rows? `python -m benchmarks.training` prints a table and a line.

One thread, TT-150k's sizes (2048 and 256 features, 3,003 tracks), made-up numbers. The released
way is a plain PyTorch model of the released architecture, fed as the released code does it: a
DataLoader whose every item draws a negative from list(set.difference), features gathered in
NumPy, items collated. Each way's figure is an epoch with its validation. The yardstick replays
the matrix products of a step, backward included and nothing else, on resident tensors.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Dataset

from models import ModelConfig, Picks, TrainingData, losses, metrics, train_student, train_teacher
from models.config import Variant
from models.model import Model
from models.networks import DebcmNetwork, VariationalNetwork, device_of
from models.objectives import Objective, PickChoice, VariationalMatch
from models.preparation import network_for

VIDEO_COLUMNS, MUSIC_COLUMNS, TRACKS, GROUPS = 2048, 256, 3_003, 6
UPLOADERS_PER_ROW = 0.2
EPOCH_ROWS = 146_000
VALIDATION_SHARE = 0.1
VARIANTS: tuple[Variant, ...] = ("released", "paper", "debcm")
PRODUCTS = {torch.ops.aten.mm.default, torch.ops.aten.addmm.default}


def made_up(rows: int) -> TrainingData:
    """Return random features, and picks that follow Zipf's law, sized like TT-150k."""
    rng = np.random.default_rng(0)
    held_out = max(1, round(VALIDATION_SHARE * rows))
    popularity = 1 / (1 + np.arange(TRACKS))

    def picks(first: int, count: int) -> Picks:
        return Picks(
            np.arange(first, first + count),
            rng.choice(TRACKS, size=count, p=popularity / popularity.sum()),
            rng.integers(max(1, round(UPLOADERS_PER_ROW * rows)), size=count),
            np.arange(count, dtype=np.float64),
            np.full((count, GROUPS), 1 / GROUPS, dtype=np.float32),
        )

    def features(count: int, columns: int) -> npt.NDArray[np.float32]:
        return rng.random((count, columns), dtype=np.float32)

    return TrainingData(
        video=features(rows + held_out, VIDEO_COLUMNS),
        music=features(TRACKS, MUSIC_COLUMNS),
        genre_group=rng.integers(GROUPS, size=TRACKS),
        n_groups=GROUPS,
        train=picks(0, rows),
        validation=picks(rows, held_out),
        segment_video=features(2_048, VIDEO_COLUMNS),
        segment_music=features(2_048, MUSIC_COLUMNS),
        population_preference=np.full(GROUPS, 1 / GROUPS, dtype=np.float32),
    )


class ReleasedItems(Dataset[tuple[Any, ...]]):
    """One pick at a time, with a negative track that its uploader never picked."""

    def __init__(self, data: TrainingData) -> None:
        self.data = data
        self.rng = np.random.default_rng(0)
        self.every = set(range(len(data.music)))
        self.picked: dict[int, set[int]] = {}
        for uploader, music in zip(
            data.train.uploader.tolist(), data.train.music.tolist(), strict=True
        ):
            self.picked.setdefault(uploader, set()).add(music)

    def __len__(self) -> int:
        return len(self.data.train)

    def __getitem__(self, row: int) -> tuple[Any, ...]:
        train = self.data.train
        others = list(self.every.difference(self.picked[int(train.uploader[row])]))
        negative = others[self.rng.integers(len(others))]
        return (
            self.data.video[train.video[row]],
            self.data.music[train.music[row]],
            self.data.music[negative],
            train.preference[row],
        )


class PlainEncoder(nn.Module):
    """BatchNorm, dropout and two heads of length one."""

    def __init__(self, columns: int, dim: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.BatchNorm1d(columns), nn.Dropout(0.2))
        self.mean, self.logvar = nn.Linear(columns, dim), nn.Linear(columns, dim)

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return (mean, logvar), each [B, D]."""
        x = self.body(rows)
        return F.normalize(self.mean(x)), F.normalize(self.logvar(x))


class PlainReleased(nn.Module):
    """The released architecture and objective in PyTorch's own modules."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.video, self.music = PlainEncoder(VIDEO_COLUMNS, dim), PlainEncoder(MUSIC_COLUMNS, dim)
        self.to_music = self.decoder(dim, MUSIC_COLUMNS)
        self.to_video = self.decoder(dim, VIDEO_COLUMNS)
        self.confounder = nn.Parameter(torch.randn(GROUPS, dim))
        self.fusion = nn.Linear(2 * dim, dim)

    @staticmethod
    def decoder(dim: int, columns: int) -> nn.Module:
        """Return a cross-modal decoder."""
        return nn.Sequential(
            nn.BatchNorm1d(dim), nn.Dropout(0.2), nn.Linear(dim, columns), nn.ReLU()
        )

    @staticmethod
    def match(scores: Tensor) -> Tensor:
        """Return the matching loss of one direction."""
        gap = (scores.diagonal()[:, None] - scores - losses.MARGIN).clamp(min=0)
        return -gap.topk(losses.HARDEST, dim=1).values.mean()

    def loss(self, teacher: "PlainReleased", batch: list[Tensor], distill: float) -> Tensor:
        """Return the released loss of a collated batch."""
        video, music, _, preference = batch
        (v, v_logvar), (m, m_logvar) = self.video(video), self.music(music)
        with torch.no_grad():
            taught = (*teacher.video(video), *teacher.music(music))
        v_latent = v + torch.randn_like(v) * torch.exp(v_logvar / 2)
        m_latent = m + torch.randn_like(m) * torch.exp(m_logvar / 2)
        lean = (preference.mean(dim=0) @ self.confounder).expand_as(m_latent)
        scores = self.fusion(torch.cat([lean, m_latent], dim=1)) @ v_latent.T
        match = self.match(scores) + self.match(scores.T)
        rebuilt = F.mse_loss(self.to_music(v_latent), music) + F.mse_loss(
            self.to_video(m_latent), video
        )
        kl = losses.standard_normal_kl(v, v_logvar) + losses.standard_normal_kl(m, m_logvar)
        guided = losses.released_distillation(v, v_logvar, *taught[:2])
        guided = guided + losses.released_distillation(m, m_logvar, *taught[2:])
        return match + rebuilt + kl + distill * guided


def released_way(data: TrainingData, config: ModelConfig) -> float:
    """Train one epoch as the released code does, and validate; return its CPU seconds."""
    network, teacher = PlainReleased(config.dim), PlainReleased(config.dim).eval()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=1e-3)
    loader = DataLoader(ReleasedItems(data), config.batch_size, shuffle=True, drop_last=True)
    started = time.process_time()
    for batch in loader:
        optimizer.zero_grad()
        network.loss(teacher, batch, config.distill_weight).backward()
        optimizer.step()
    held_out = data.validation
    with torch.no_grad():
        video = network.eval().video(torch.from_numpy(data.video[held_out.video]))[0]
        music = network.music(torch.from_numpy(data.music))[0]
        hits = metrics.recall_at_k((video @ music.T).numpy(), held_out.music, 25)
    assert np.isfinite(hits).all()
    return time.process_time() - started


def our_way(data: TrainingData, teacher: Model, config: ModelConfig) -> float:
    """Train two epochs with our code; return the CPU seconds of the second."""
    ends: list[float] = []
    two = config.model_copy(update={"epochs": 2})
    train_student(data, teacher, two, on_epoch=lambda _: ends.append(time.process_time()))
    return ends[1] - ends[0]


class Products(TorchDispatchMode):
    """Notes the operands of every matrix product that runs while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in PRODUCTS:
            left, right = args[-2:]
            self.noted.append((resident(left), resident(right)))
        return func(*args, **(kwargs or {}))


def resident(like: Tensor) -> Tensor:
    """Return a random matrix of the same shape and layout."""
    return torch.empty_strided(like.shape, like.stride()).normal_()


def objective_of(data: TrainingData, teacher: Model, config: ModelConfig) -> Objective:
    """Return an untrained student's objective."""
    network = network_for(data, config, "student").train()
    if isinstance(network, DebcmNetwork):
        assert isinstance(teacher.network, DebcmNetwork)
        return PickChoice(network, teacher.network, data, config)
    assert isinstance(teacher.network, VariationalNetwork)
    return VariationalMatch(network, teacher.network, data, config, "student")


def step_products(objective: Objective, batch: int) -> list[tuple[Tensor, Tensor]]:
    """Return the operands of all matrix products of one training step, backward included."""
    products = Products()
    with products:
        found = objective(np.arange(batch))
        torch.stack(list(found.values())).sum().backward()
    assert device_of(objective.network).type == "cpu"
    return products.noted


def replay(products: list[tuple[Tensor, Tensor]], steps: int) -> float:
    """Compute the products of every step; return the CPU seconds."""
    started = time.process_time()
    for _ in range(steps):
        for left, right in products:
            left @ right
    return time.process_time() - started


def compare(rows: int, rounds: int) -> None:
    """Print the table of ways; each round runs every way once."""
    data = made_up(rows)
    configs = {name: ModelConfig.preset(name, teacher_epochs=1) for name in VARIANTS}
    steps = rows // configs["released"].batch_size
    used = steps * configs["released"].batch_size
    ways: dict[str, Callable[[], float]] = {
        "released way": lambda: released_way(data, configs["released"])
    }
    for name, config in configs.items():
        teacher = train_teacher(data, config)
        products = step_products(objective_of(data, teacher, config), config.batch_size)
        ways[name] = lambda teacher=teacher, config=config: our_way(data, teacher, config)
        ways[f"{name}: products alone"] = lambda products=products: replay(products, steps)
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, work in ways.items():
            speeds[way].append(used / work())
    speed = {way: median(found) for way, found in speeds.items()}
    print("| way | rows per CPU second | of its products alone | times the released way |")
    print("|---|---|---|---|")
    for way, value in speed.items():
        share = f"{value / speed[f'{way}: products alone']:.2f}" if way in VARIANTS else ""
        print(f"| {way} | {value:,.0f} | {share} | {value / speed['released way']:.2f} |")


def whole_epoch() -> None:
    """Print what one epoch of TT-150k's size costs the default, set-up and validation included."""
    data = made_up(EPOCH_ROWS)
    config = ModelConfig(epochs=1, teacher_epochs=1)
    teacher = train_teacher(data, config)
    started = time.process_time()
    train_student(data, teacher, config)
    seconds = time.process_time() - started
    print(f"\nAn epoch of {EPOCH_ROWS:,} rows of the default: {seconds:.1f} CPU seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=8_192, help="rows of a compared epoch")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    compare(chosen.rows, chosen.rounds)
    whole_epoch()


if __name__ == "__main__":
    main()
