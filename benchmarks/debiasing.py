"""Measures how well each variant, baseline and ablation finds the true match.

    python -m benchmarks.debiasing [--small] [--workers N] [--seeds N ...] [--results FILE]

There are nine worlds of `simulation.world` (3 seeds x 3 confounding strengths), whose true match is
known. Test videos are later than every training pick. FILE gets one JSON line per result; a result
that it already holds for the same world and configuration is not computed again. The default
settings were chosen on a world with another seed (100).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models import ModelConfig, fit, metrics, train_student, train_teacher
from models.baselines import (
    LearnedBaseline,
    baseline_config,
    cca_scorer,
    genre_popularity_scorer,
    model_scorer,
    popularity_scorer,
    random_scorer,
)
from models.model import Model
from simulation.dataset import WorldData, make_data
from simulation.world import World, WorldConfig, make_world

SEEDS = (0, 1, 2)
STRENGTHS = (0.0, 1.0, 2.0)
FULL: dict[str, int] = {}
SMALL = {"n_videos": 4_800, "n_music": 800, "n_uploaders": 200, "n_pgc": 400, "days": 50}
COLUMNS = (
    ("true_recall_10", "true R@10"),
    ("true_ndcg_10", "true N@10"),
    ("genre_kl", "genre KL"),
    ("observed_recall_10", "obs R@10"),
    ("observed_recall_25", "obs R@25"),
    ("observed_ndcg_10", "obs N@10"),
    ("sampled_recall_10", "1+100 R@10"),
    ("sampled_recall_25", "1+100 R@25"),
    ("cold_recall_10", "cold R@10"),
    ("seconds", "CPU s"),
)
ABLATIONS: dict[str, dict[str, Any]] = {
    "debcm without teacher": {"teacher": False, "distill": "none"},
    "debcm without adjustment": {"adjustment": "none"},
    "debcm, probability averaged": {"adjustment": "probability"},
    "debcm without popularity": {"popularity": False},
    "debcm without masking": {"masking": False},
    "debcm without consideration set": {"contrast": "catalogue"},
}
BASELINES = (
    "random",
    "popularity",
    "popularity per genre",
    "CCA",
    "dual encoder",
    "IPS",
    "released",
    "paper",
    "teacher alone",
    "distilled without picks",
)
ORACLES = ("oracle", "oracle without explanations")
ORDER = (*BASELINES, "debcm", *ORACLES, *ABLATIONS)
Scores = Callable[[np.ndarray], np.ndarray]
Rows = dict[str, dict[str, Any]]


def true_quality(world: World, data: WorldData, scores: np.ndarray) -> dict[str, float]:
    """Return the measures that need the true match."""
    affinity = world.affinity(data.test_videos)
    best, recommended = metrics.top(affinity, 10), metrics.top(scores, 10)
    gain = np.exp(affinity - affinity.max(axis=1, keepdims=True))
    cold = data.cold
    cold_hits = metrics.set_recall(
        metrics.top(scores[:, cold], 10), metrics.top(affinity[:, cold], 10)
    )
    return {
        "true_recall_10": float(metrics.set_recall(recommended, best).mean()),
        "true_ndcg_10": float(metrics.graded_ndcg(recommended, gain).mean()),
        "genre_kl": metrics.genre_calibration(
            recommended, best, world.music_group, world.config.n_groups
        ),
        "cold_recall_10": float(cold_hits.mean()),
    }


def observed_quality(data: WorldData, scores: np.ndarray) -> dict[str, float]:
    """Return the measures over held-out picks, weighted by inverse popularity."""
    picked, n_music = data.test.music, scores.shape[1]
    weights = metrics.inverse_popularity_weights(picked, n_music)
    frozen = metrics.freeze_negatives(picked, n_music, 100, seed=0)
    sampled = metrics.sampled_scores(scores, frozen)
    first = np.zeros(len(picked), dtype=np.int64)
    return {
        "observed_recall_10": float((metrics.recall_at_k(scores, picked, 10) * weights).sum()),
        "observed_recall_25": float((metrics.recall_at_k(scores, picked, 25) * weights).sum()),
        "observed_ndcg_10": float((metrics.ndcg_at_k(scores, picked, 10) * weights).sum()),
        "sampled_recall_10": float((metrics.recall_at_k(sampled, first, 10) * weights).sum()),
        "sampled_recall_25": float((metrics.recall_at_k(sampled, first, 25) * weights).sum()),
    }


@dataclass
class Contest:
    """One world and its contenders; the teacher is trained once, on first use."""

    data: WorldData
    oracle: WorldData
    config: ModelConfig

    @cached_property
    def teacher(self) -> Model:
        """The teacher of every student that learns from one."""
        return train_teacher(self.data.training, self.config)

    def student(self, on: WorldData, config: ModelConfig) -> Scores:
        """Train a student with the teacher and return its scorer."""
        return model_scorer(train_student(on.training, self.teacher, config), on.training)

    def train_alone(self, config: ModelConfig) -> Scores:
        """Train a contender without the shared teacher and return its scorer."""
        return model_scorer(fit(self.data.training, config), self.data.training)

    def closed_form(self) -> dict[str, Callable[[], Scores]]:
        """Return the contenders without a model configuration."""
        training = self.data.training
        return {
            "random": lambda: random_scorer(training, self.config.seed),
            "popularity": lambda: popularity_scorer(training),
            "popularity per genre": lambda: genre_popularity_scorer(training),
            "CCA": lambda: cca_scorer(training, self.config.dim),
        }

    def alone(self) -> dict[str, ModelConfig]:
        """Return the contenders that train their own teacher, or none."""
        seed = self.config.seed
        return {
            "dual encoder": baseline_config(LearnedBaseline.DUAL_ENCODER, self.config),
            "IPS": baseline_config(LearnedBaseline.IPS, self.config),
            "released": ModelConfig.preset("released", seed=seed),
            "paper": ModelConfig.preset("paper", seed=seed),
        }

    def students(self) -> dict[str, tuple[WorldData, ModelConfig]]:
        """Return the contenders that learn from the teacher, each with its data."""
        unexplained = {"contrast": "catalogue", "adjustment": "none", "popularity": False}
        nothing = baseline_config(LearnedBaseline.DISTILLED_WITHOUT_PICKS, self.config)
        rows = {
            "distilled without picks": (self.data, nothing),
            "debcm": (self.data, self.config),
            "oracle": (self.oracle, self.config),
            "oracle without explanations": (
                self.oracle,
                self.config.model_copy(update=unexplained),
            ),
        }
        for name, changes in ABLATIONS.items():
            rows[name] = (self.data, self.config.model_copy(update=changes))
        return rows

    def rows(self) -> dict[str, tuple[str, Callable[[], Scores]]]:
        """Return name -> (configuration as JSON, training function)."""
        found = {name: ("", train) for name, train in self.closed_form().items()}
        for name, config in self.alone().items():
            found[name] = (
                config.model_dump_json(),
                partial(self.train_alone, config),
            )
        found["teacher alone"] = (
            self.config.model_dump_json(),
            lambda: model_scorer(self.teacher, self.data.training),
        )
        for name, (on, config) in self.students().items():
            found[name] = (
                config.model_dump_json(),
                partial(self.student, on, config),
            )
        return found


def read_results(file: Path, size: dict[str, int]) -> dict[tuple[float, int], Rows]:
    """Return (strength, seed) -> contender -> its last result in the file."""
    worlds: dict[tuple[float, int], Rows] = {}
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    for line in map(json.loads, lines):
        if line["size"] == size:
            worlds.setdefault((line["strength"], line["seed"]), {})[line["name"]] = line
    return worlds


def run_world(size: dict[str, int], strength: float, seed: int, file: Path) -> None:
    """Train and evaluate the contenders of one world that the file lacks, and append them."""
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.WARNING)
    done = read_results(file, size).get((strength, seed), {})
    world = make_world(WorldConfig(confounding=strength, seed=seed, **size))
    data = make_data(world)
    contest = Contest(data, make_data(world, unbiased=True), ModelConfig(seed=seed))
    for name, (config, train) in contest.rows().items():
        if name in done and done[name]["config"] == config:
            continue
        if name in contest.students():
            _ = contest.teacher  # trained here, so that its cost is not part of the student's
        started = time.process_time()
        score = train()
        seconds = time.process_time() - started
        scores = score(data.training.video[data.test_videos])
        found = true_quality(world, data, scores) | observed_quality(data, scores)
        line = {"size": size, "strength": strength, "seed": seed, "name": name, "config": config}
        with file.open("a", encoding="utf-8") as results:
            results.write(json.dumps(line | {"found": found | {"seconds": seconds}}) + "\n")


def print_table(worlds: list[Rows]) -> None:
    """Print mean and standard deviation over the worlds as a Markdown table."""
    print("| | " + " | ".join(title for _, title in COLUMNS) + " |")
    print("|---|" + "---|" * len(COLUMNS))
    for name in ORDER:
        cells = []
        for column, _ in COLUMNS:
            values = [world[name]["found"][column] for world in worlds]
            digits = 1 if column == "seconds" else 3
            cells.append(f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}")
        print(f"| {name} | " + " | ".join(cells) + " |")


def print_targets(worlds: dict[tuple[float, int], Rows]) -> None:
    """Print the target measures of each world."""
    print(
        "\n| confounding | seed | debcm | oracle | debcm / oracle | best baseline "
        "| above it | genre KL | debcm / dual |"
    )
    print("|---" * 9 + "|")
    for (strength, seed), rows in sorted(worlds.items()):
        recall = {name: row["found"]["true_recall_10"] for name, row in rows.items()}
        best = max(BASELINES, key=lambda name: recall[name])
        print(
            f"| {strength:g} | {seed} | {recall['debcm']:.4f} | {recall['oracle']:.4f} "
            f"| {recall['debcm'] / recall['oracle']:.3f} | {best} "
            f"| {recall['debcm'] - recall[best]:+.4f} "
            f"| {rows['debcm']['found']['genre_kl']:.4f} "
            f"| {recall['debcm'] / recall['dual encoder']:.2f} |"
        )

    def mean(name: str) -> float:
        return float(np.mean([rows[name]["found"]["true_recall_10"] for rows in worlds.values()]))

    for name in ORACLES:
        print(f"\ndebcm / {name}, means: {mean('debcm') / mean(name):.3f}", end="")
    print()


def print_ablations(worlds: dict[tuple[float, int], Rows]) -> None:
    """Print what each ingredient changes in true Recall@10 and genre KL."""

    def gains(name: str, measure: str, at: tuple[float, ...]) -> list[float]:
        return [
            rows["debcm"]["found"][measure] - rows[name]["found"][measure]
            for (strength, _), rows in sorted(worlds.items())
            if strength in at
        ]

    strengths = " | ".join(f"recall at {strength:g}" for strength in STRENGTHS)
    print(f"\n| debcm over | {strengths} | recall | better in | genre KL | lower in |")
    print("|---" * (len(STRENGTHS) + 5) + "|")
    for name in ABLATIONS:
        each = [np.mean(gains(name, "true_recall_10", (strength,))) for strength in STRENGTHS]
        recall = gains(name, "true_recall_10", STRENGTHS)
        divergence = gains(name, "genre_kl", STRENGTHS)
        print(
            f"| {name} | {' | '.join(f'{gain:+.4f}' for gain in each)} "
            f"| {np.mean(recall):+.4f} | {sum(gain > 0 for gain in recall)} of {len(recall)} "
            f"| {np.mean(divergence):+.4f} | {sum(gain < 0 for gain in divergence)} |"
        )


def run_all(size: dict[str, int], seeds: Sequence[int], workers: int, file: Path) -> None:
    """Compute the missing results and print the tables."""
    started = time.perf_counter()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [
            pool.submit(run_world, size, strength, seed, file)
            for seed in seeds
            for strength in STRENGTHS
        ]
        for job in as_completed(jobs):
            job.result()
    worlds = read_results(file, size)
    print_table(list(worlds.values()))
    print_targets(worlds)
    print_ablations(worlds)
    print(f"\n{len(worlds)} worlds, {time.perf_counter() - started:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="800 tracks, 4,000 training picks")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--results", type=Path, help="JSON lines file to resume from and append to")
    chosen = parser.parse_args()
    size = SMALL if chosen.small else FULL
    with tempfile.TemporaryDirectory() as folder:
        file = chosen.results or Path(folder) / "results.jsonl"
        run_all(size, chosen.seeds, chosen.workers, file)


if __name__ == "__main__":
    main()
