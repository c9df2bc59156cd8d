"""Measures the default model in worlds that differ from the standard one in one law.

    python -m benchmarks.robustness [--seeds 0 1]

Small worlds of `simulation.world` (5,000 training picks, 1,000 tracks) with a known truth. Each
changes one law: the number of picks, careless uploaders, steeper popularity, the number of music
videos, music videos cut without regard to the sound. Column "all the way" is the default without
`models.interpolation`. Column "share" is the chosen point between teacher (0) and student (1);
"teaching" is the weight that the teacher had. No setting is tuned to these worlds, and no model is
selected by the truth.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.debiasing import Contest, true_quality
from models import ModelConfig, train_student
from models.baselines import LearnedBaseline, baseline_config, model_scorer
from models.model import Model
from simulation.dataset import WorldData, make_data
from simulation.world import World, WorldConfig, make_world

SIZE: dict[str, Any] = {
    "n_videos": 6_000,
    "n_music": 1_000,
    "n_uploaders": 250,
    "n_pgc": 500,
    "days": 50,
}
LAWS: dict[str, dict[str, Any]] = {
    "none": {},
    "a quarter of the videos": {"n_videos": 1_500},
    "30 uploaders": {"n_uploaders": 30},
    "4,000 tracks": {"n_music": 4_000},
    "100 music videos": {"n_pgc": 100},
    "2,000 music videos": {"n_pgc": 2_000},
    "half of the segments at random": {"pgc_at_random": 0.5},
    "all segments at random": {"pgc_at_random": 1.0},
    "no preference": {"confounding": 0.0},
    "strong preference and fame": {"confounding": 3.0, "popularity": 1.0},
    "steep popularity": {"popularity": 1.5},
    "careless uploaders": {"carelessness": 0.8},
    "uploaders know 0.5 %": {"knowledge": 0.005},
    "uploaders know 10 %": {"knowledge": 0.1},
    "weak affinity": {"affinity": 5.0},
    "alike within a genre": {"separation": 2.0},
    "12 genre groups": {"n_groups": 12},
    "noisy features": {"noise": 0.6},
}
COLUMNS = ("dual encoder", "teacher", "all the way", "debcm", "oracle", "share", "teaching")


def run_world(law: dict[str, Any], seed: int) -> dict[str, float]:
    """Return column -> true Recall@10, share and teacher weight in one world."""
    world = make_world(WorldConfig(**(SIZE | law), seed=seed))
    data, unbiased = make_data(world), make_data(world, unbiased=True)
    config = ModelConfig(seed=seed)
    contest = Contest(data, unbiased, config)
    whole = config.model_copy(update={"interpolate": False})
    students: dict[str, Callable[[], Model]] = {
        "dual encoder": lambda: train_student(
            data.training, None, baseline_config(LearnedBaseline.DUAL_ENCODER, config)
        ),
        "teacher": lambda: contest.teacher,
        "all the way": lambda: train_student(data.training, contest.teacher, whole),
        "debcm": lambda: train_student(data.training, contest.teacher, config),
        "oracle": lambda: train_student(unbiased.training, contest.teacher, config),
    }
    models = {name: train() for name, train in students.items()}
    found = {name: _true_recall(world, data, model) for name, model in models.items()}
    debcm = models["debcm"]
    return found | {"share": debcm.student_share, "teaching": debcm.teacher_weight}


def _true_recall(world: World, data: WorldData, model: Model) -> float:
    score: Callable[..., np.ndarray] = model_scorer(model, data.training)
    found = true_quality(world, data, score(data.training.video[data.test_videos]))
    return found["true_recall_10"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.WARNING)
    print("| changed | " + " | ".join(COLUMNS) + " | debcm / oracle | debcm / all the way |")
    print("|---" * (len(COLUMNS) + 3) + "|")
    worlds = []
    for name, law in LAWS.items():
        runs = [run_world(law, seed) for seed in seeds]
        mean = {column: float(np.mean([run[column] for run in runs])) for column in COLUMNS}
        worlds.append(mean)
        _print_row(name, mean)
    _print_row("mean", {c: float(np.mean([world[c] for world in worlds])) for c in COLUMNS})
    beaten = sum(world["debcm"] >= world["teacher"] for world in worlds)
    print(f"\ndebcm at or above its teacher in {beaten} of {len(worlds)} worlds")


def _print_row(name: str, found: dict[str, float]) -> None:
    values = " | ".join(f"{found[column]:.3f}" for column in COLUMNS)
    print(
        f"| {name} | {values} | {found['debcm'] / found['oracle']:.3f} "
        f"| {found['debcm'] / found['all the way']:.2f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
