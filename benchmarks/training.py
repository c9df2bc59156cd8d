"""Measures training speed: `python -m benchmarks.training` prints a table and a line.

One thread, random data of TT-150k's sizes (2048 and 256 features, 3,003 tracks). The "released
way" repeats what the paper's published code does, including work without effect: a DataLoader
whose every item draws a negative from list(set.difference), features gathered in NumPy, negatives
selected by Boolean masks, the teacher's whole forward pass, the reconstruction loss computed twice,
validation on 1 + 100 tracks row by row. Each figure is one epoch with its validation. The lower
bound replays only the matrix products of a step (forward and backward) on resident tensors.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Dataset

from models import ModelConfig, Picks, TrainingData, paper, train_student, train_teacher
from models.config import VariantName
from models.model import Model
from models.registry import variant_of
from models.setup import network_for
from models.variant import Objective, Stage, device_of

VIDEO_COLUMNS, MUSIC_COLUMNS, TRACKS, GROUPS = 2048, 256, 3_003, 6
UPLOADERS_PER_ROW = 0.2
EPOCH_ROWS = 146_000
VALIDATION_SHARE = 0.1
VARIANTS: tuple[VariantName, ...] = ("released", "paper", "debcm")
PRODUCTS = {torch.ops.aten.mm.default, torch.ops.aten.addmm.default}


def random_data(rows: int) -> TrainingData:
    """Return random features and Zipf-distributed picks of TT-150k's widths."""
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
    """Yields one pick at a time, with a negative track that no loss uses."""

    def __init__(self, data: TrainingData) -> None:
        self.data = data
        self.every = set(range(len(data.music)))
        self.rng = np.random.default_rng(0)

    def __len__(self) -> int:
        return len(self.data.train)

    def __getitem__(self, row: int) -> tuple[Any, ...]:
        train = self.data.train
        own = int(train.music[row])
        negative = self.rng.choice(list(self.every.difference([own])), 1)[0]
        genre = np.zeros(GROUPS, dtype=np.int64)
        genre[self.data.genre_group[own]] = 1
        return int(train.video[row]), own, negative, genre, train.preference[row]


class PlainEncoder(nn.Module):
    """BatchNorm, dropout and two L2-normalised heads."""

    def __init__(self, columns: int, dim: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.BatchNorm1d(columns), nn.Dropout(0.2))
        self.mean, self.logvar = nn.Linear(columns, dim), nn.Linear(columns, dim)

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return (mean, logvar), each [B, D]."""
        x = self.body(rows)
        return F.normalize(self.mean(x)), F.normalize(self.logvar(x))


class Latents(NamedTuple):
    """The results of one forward pass for video (v) and music (m), each [B, ...]."""

    v: tuple[Tensor, Tensor]
    m: tuple[Tensor, Tensor]
    v_latent: Tensor
    m_latent: Tensor
    video: Tensor
    music: Tensor


class PlainReleased(nn.Module):
    """The released architecture and objective, built from PyTorch's own modules."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.video, self.music = PlainEncoder(VIDEO_COLUMNS, dim), PlainEncoder(MUSIC_COLUMNS, dim)
        self.to_music = self.decoder(dim, MUSIC_COLUMNS)
        self.to_video = self.decoder(dim, VIDEO_COLUMNS)
        self.confounder = nn.Embedding(GROUPS, dim)
        self.fusion = nn.Linear(2 * dim, dim)

    @staticmethod
    def decoder(dim: int, columns: int) -> nn.Module:
        """Return a cross-modal decoder."""
        return nn.Sequential(
            nn.BatchNorm1d(dim), nn.Dropout(0.2), nn.Linear(dim, columns), nn.ReLU()
        )

    def fuse(self, latent: Tensor, preference: Tensor) -> Tensor:
        """Return the music's latents with the confounder of a mean preference [G]."""
        groups = self.confounder(torch.arange(GROUPS).repeat(len(latent), 1))
        pair = torch.cat([(groups * preference[:, None]).sum(dim=1), latent], dim=1)
        fused: Tensor = self.fusion(pair)
        return fused

    def forward(self, video: Tensor, music: Tensor, preference: Tensor | None) -> Latents:
        """Encode, sample, fuse (only the student has a preference) and decode."""
        v, m = self.video(video), self.music(music)
        v_latent = v[0] + torch.randn_like(v[0]) * torch.exp(v[1] / 2)
        m_latent = m[0] + torch.randn_like(m[0]) * torch.exp(m[1] / 2)
        if preference is not None:
            m_latent = self.fuse(m_latent, preference)
        return Latents(v, m, v_latent, m_latent, self.to_video(m_latent), self.to_music(v_latent))

    @staticmethod
    def match(scores: Tensor) -> Tensor:
        """Return the matching loss of one direction."""
        own = torch.eye(len(scores), dtype=torch.bool)
        others = scores[~own].view(len(scores), -1)
        gap = (scores[own].view(-1, 1) - others - paper.MARGIN).clamp(min=0)
        return -gap.topk(paper.HARDEST, dim=1).values.mean()

    def loss(
        self, teacher: PlainReleased, video: Tensor, music: Tensor, preference: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the released loss of a batch, and the reconstruction loss computed again."""

        def rebuilt() -> Tensor:
            return F.mse_loss(made.music, music) + F.mse_loss(made.video, video)

        made = self(video, music, preference.mean(dim=0))
        with torch.no_grad():
            taught = teacher(video, music, None)
        scores = made.m_latent @ made.v_latent.T
        kl = paper.standard_normal_kl(*made.v) + paper.standard_normal_kl(*made.m)
        guided = paper.released_distillation(*made.v, *taught.v)
        guided = guided + paper.released_distillation(*made.m, *taught.m)
        match = self.match(scores) + self.match(scores.T)
        return match + rebuilt() + kl + 5e-5 * guided, rebuilt()


def released_validation(
    network: PlainReleased, data: TrainingData, negatives: npt.NDArray[np.int64]
) -> float:
    """Return Recall@25 plus NDCG@25 of one pick among 100 negatives, row by row."""
    picks = data.validation
    with torch.no_grad():
        music = network.eval().music(torch.from_numpy(data.music))[0]
        music = network.fuse(music, torch.from_numpy(data.population_preference))
        video = network.video(torch.from_numpy(data.video[picks.video]))[0]
        every = video @ music.T
    items = np.hstack([picks.music[:, None], negatives])
    ranked = every[np.arange(len(items))[:, None], items].topk(25, dim=1).indices.numpy()
    hits = sum(bool(np.isin(0, row)) for row in ranked)
    gains = sum(1 / np.log2(list(row).index(0) + 2) for row in ranked if 0 in row)
    return float(hits + gains) / len(items)


def released_way(data: TrainingData, config: ModelConfig) -> float:
    """Train and validate one epoch as the released code does; return CPU seconds."""
    network, teacher = PlainReleased(config.dim), PlainReleased(config.dim).eval()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=1e-3)
    loader = DataLoader(ReleasedItems(data), config.batch_size, shuffle=True, drop_last=True)
    negatives = np.random.default_rng(0).integers(TRACKS, size=(len(data.validation), 100))
    seen = 0.0
    started = time.process_time()
    for video, music, _, _, preference in loader:
        pictures = torch.from_numpy(data.video[video.numpy()])
        sounds = torch.from_numpy(data.music[music.numpy()])
        optimizer.zero_grad()
        loss, rebuilt = network.loss(teacher, pictures, sounds, preference)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        seen += loss.item() + rebuilt.item()
    seen += released_validation(network, data, negatives)
    assert np.isfinite(seen)
    return time.process_time() - started


def our_way(data: TrainingData, teacher: Model, config: ModelConfig) -> float:
    """Train two epochs with our code; return CPU seconds of the second."""
    ends: list[float] = []
    two = config.model_copy(update={"epochs": 2, "interpolate": False})
    train_student(data, teacher, two, on_epoch=lambda _: ends.append(time.process_time()))
    return ends[1] - ends[0]


class Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the operands of every matrix product that runs inside the context."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.recorded: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in PRODUCTS:
            left, right = args[-2:]
            self.recorded.append((resident(left), resident(right)))
        return func(*args, **(kwargs or {}))


def resident(like: Tensor) -> Tensor:
    """Return a random matrix of the same shape and layout."""
    return torch.empty_strided(like.shape, like.stride()).normal_()


def objective_of(data: TrainingData, teacher: Model, config: ModelConfig) -> Objective:
    """Return an untrained student's objective."""
    network = network_for(data, config, Stage.STUDENT).train()
    return variant_of(config).prepare_student(network, teacher.network, data, config)


def step_products(objective: Objective, batch: int) -> list[tuple[Tensor, Tensor]]:
    """Return the operands of all matrix products of one training step, backward included."""
    products = Products()
    with products:
        found = objective(np.arange(batch))
        torch.stack(list(found.values())).sum().backward()  # type: ignore[no-untyped-call]
    assert device_of(objective.network).type == "cpu"
    return products.recorded


def replay(products: list[tuple[Tensor, Tensor]], steps: int) -> float:
    """Compute the products of every step; return CPU seconds."""
    started = time.process_time()
    for _ in range(steps):
        for left, right in products:
            left @ right
    return time.process_time() - started


def compare(rows: int, rounds: int) -> None:
    """Print the table; each round runs every contender once."""
    data = random_data(rows)
    configs = {name: ModelConfig.preset(name, teacher_epochs=1) for name in VARIANTS}
    steps = rows // configs["released"].batch_size
    used = steps * configs["released"].batch_size
    ways: dict[str, Callable[[], float]] = {
        "released way": lambda: released_way(data, configs["released"])
    }
    for name, config in configs.items():
        teacher = train_teacher(data, config)
        products = step_products(objective_of(data, teacher, config), config.batch_size)
        ways[name] = partial(our_way, data, teacher, config)
        ways[f"{name}: products alone"] = partial(replay, products, steps)
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
    """Print the cost of one default epoch at TT-150k's size, including set-up and validation.

    Interpolation runs once per training, not per epoch, so it is switched off.
    """
    data = random_data(EPOCH_ROWS)
    config = ModelConfig(epochs=1, teacher_epochs=1, interpolate=False)
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
