"""How fast does training feed its rows? `python -m benchmarks.training` prints two tables.

One thread, TT-150k's sizes (2048 and 256 features, 3,003 tracks), made-up numbers. The released
way hands the released objective its rows as the released code does: a DataLoader whose every
item draws a negative from list(set.difference), features gathered in NumPy, items collated.
The yardstick replays the matrix products of a step, and nothing else, on resident tensors.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Dataset

from models import ModelConfig, Picks, TrainingData, train_student, train_teacher
from models.config import Variant
from models.model import Model
from models.networks import DebcmNetwork, VariationalNetwork, device_of
from models.objectives import Objective, PickChoice, VariationalMatch
from models.preparation import network_for
from models.train import selection_metric

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
            train.music[row],
        )


class Handed(VariationalMatch):
    """The released objective on a batch that is handed to it instead of taken by row."""

    batch: tuple[Tensor, Tensor, Tensor, Tensor]

    def _pairs(self, rows: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.batch


def released_way(data: TrainingData, teacher: Model, config: ModelConfig) -> None:
    """Train one epoch as the released code does, and validate."""
    network = network_for(data, config, "student").train()
    assert isinstance(network, VariationalNetwork)
    assert isinstance(teacher.network, VariationalNetwork)
    objective = Handed(network, teacher.network, data, config, "student")
    optimizer = torch.optim.Adam(
        [each for each in network.parameters() if each.requires_grad],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
    )
    loader = DataLoader(ReleasedItems(data), config.batch_size, shuffle=True, drop_last=True)
    for video, music, _, preference, track in loader:
        objective.batch = (video, music, preference.mean(dim=0), track)
        found = objective(np.arange(len(video)))
        loss = torch.stack([objective.weights[name] * found[name] for name in found]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    selection_metric(network, data, data.validation, np.arange(len(data.validation)))


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


def rows_per_second(work: Callable[[], None], rows: int) -> float:
    """Return rows per CPU second of this process."""
    started = time.process_time()
    work()
    return rows / (time.process_time() - started)


def compare(rows: int, rounds: int) -> None:
    """Print the table of ways; each round runs every way once."""
    data = made_up(rows)
    configs = {name: ModelConfig.preset(name, epochs=1, teacher_epochs=1) for name in VARIANTS}
    teachers = {name: train_teacher(data, config) for name, config in configs.items()}
    products = {
        name: step_products(objective_of(data, teachers[name], config), config.batch_size)
        for name, config in configs.items()
    }
    steps = rows // configs["released"].batch_size
    used = steps * configs["released"].batch_size

    def replay(name: Variant) -> None:
        for _ in range(steps):
            for left, right in products[name]:
                left @ right

    ways: dict[str, Callable[[], object]] = {
        "released way": lambda: released_way(data, teachers["released"], configs["released"])
    }
    for name in VARIANTS:
        ways[name] = lambda name=name: train_student(data, teachers[name], configs[name])
        ways[f"{name}: products alone"] = lambda name=name: replay(name)
    speed: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, work in ways.items():
            speed[way].append(rows_per_second(work, used))
    middle = {way: median(speeds) for way, speeds in speed.items()}
    print("| way | rows per CPU second | of its products alone | times the released way |")
    print("|---|---|---|---|")
    for way, value in middle.items():
        of_products = value / middle[f"{way}: products alone"] if way in VARIANTS else 1.0
        share = f"{of_products:.2f}" if way in VARIANTS else ""
        print(f"| {way} | {value:,.0f} | {share} | {value / middle['released way']:.2f} |")


def whole_epoch() -> None:
    """Print what one epoch of TT-150k's size costs, validation included."""
    data = made_up(EPOCH_ROWS)
    print("\n| variant | rows | CPU seconds of an epoch |\n|---|---|---|")
    for name in VARIANTS:
        config = ModelConfig.preset(name, epochs=1, teacher_epochs=1)
        teacher = train_teacher(data, config)
        started = time.process_time()
        train_student(data, teacher, config)
        print(f"| {name} | {EPOCH_ROWS:,} | {time.process_time() - started:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=16_384, help="rows of a compared epoch")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    compare(chosen.rows, chosen.rounds)
    whole_epoch()


if __name__ == "__main__":
    main()
