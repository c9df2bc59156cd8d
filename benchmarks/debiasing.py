"""Does debiasing find the true match? Every variant, baseline and ablation, on known truth.

    python -m benchmarks.debiasing [--small] [--workers N] [--results FILE]

Nine worlds (3 seeds x 3 confounding strengths) of `simulation.world`; test videos are later
than every training pick. Each world's results go to FILE as one JSON line; worlds already
in it are not run again. Default recipes were chosen on a world of another seed (100).
"""

import argparse
import json
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models import ModelConfig, TrainingData, fit, metrics, train_student, train_teacher
from models.baselines import (
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
    "debcm without popularity": {"popularity": False},
    "debcm without masking": {"masking": False},
    "debcm without consideration set": {"contrast": "catalogue"},
}
Scores = Callable[[np.ndarray], np.ndarray]


def true_quality(world: World, data: WorldData, scores: np.ndarray) -> dict[str, float]:
    """Return the measures that only a world with known truth can give."""
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
    """Return what held-out picks say, weighted by inverse popularity."""
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


def contenders(data: WorldData, oracle: WorldData, seed: int) -> dict[str, Callable[[], Scores]]:
    """Return name -> training; a teacher is trained once and its cost added by the caller."""
    training = data.training
    config = ModelConfig(seed=seed)
    teacher: list[Model] = []

    def taught(on: TrainingData, changed: ModelConfig) -> Scores:
        return model_scorer(train_student(on, teacher[0], changed), on)

    def teach() -> Scores:
        teacher.append(train_teacher(training, config))
        return model_scorer(teacher[0], training)

    def alone(changed: ModelConfig) -> Scores:
        return model_scorer(fit(training, changed), training)

    catalogue = config.model_copy(update={"contrast": "catalogue"})
    rows: dict[str, Callable[[], Scores]] = {
        "random": lambda: random_scorer(training, seed),
        "popularity": lambda: popularity_scorer(training),
        "popularity per genre": lambda: genre_popularity_scorer(training),
        "CCA": lambda: cca_scorer(training, config.dim),
        "dual encoder": lambda: alone(baseline_config("dual encoder", config)),
        "IPS": lambda: alone(baseline_config("ips", config)),
        "released": lambda: alone(ModelConfig.preset("released", seed=seed)),
        "paper": lambda: alone(ModelConfig.preset("paper", seed=seed)),
        "teacher alone": teach,
        "distilled without picks": lambda: taught(
            training, baseline_config("distilled without picks", config)
        ),
        "debcm": lambda: taught(training, config),
        "oracle": lambda: taught(oracle.training, config),
        "oracle, catalogue contrast": lambda: taught(oracle.training, catalogue),
    }
    for name, changes in ABLATIONS.items():
        changed = config.model_copy(update=changes)
        rows[name] = lambda changed=changed: taught(training, changed)
    return rows


def run_world(size: dict[str, int], strength: float, seed: int) -> dict[str, Any]:
    """Train and judge every contender on one world."""
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.WARNING)
    world = make_world(WorldConfig(confounding=strength, seed=seed, **size))
    data, oracle = make_data(world), make_data(world, unbiased=True)
    found: dict[str, dict[str, float]] = {}
    for name, train in contenders(data, oracle, seed).items():
        started = time.process_time()
        score = train()
        seconds = time.process_time() - started
        scores = score(data.training.video[data.test_videos])
        found[name] = true_quality(world, data, scores) | observed_quality(data, scores)
        found[name]["seconds"] = seconds
    return {"size": size, "strength": strength, "seed": seed, "rows": found}


def print_table(worlds: list[dict[str, Any]]) -> None:
    """Print mean and standard deviation over the worlds, as a Markdown table."""
    names = list(worlds[0]["rows"])
    print("| | " + " | ".join(title for _, title in COLUMNS) + " |")
    print("|---|" + "---|" * len(COLUMNS))
    for name in names:
        cells = []
        for column, _ in COLUMNS:
            values = [world["rows"][name][column] for world in worlds]
            digits = 1 if column == "seconds" else 3
            cells.append(f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}")
        print(f"| {name} | " + " | ".join(cells) + " |")


def print_targets(worlds: list[dict[str, Any]]) -> None:
    """Print, world by world, what the targets ask for."""
    baselines = ["dual encoder", "IPS", "CCA", "teacher alone", "distilled without picks"]
    print(
        "\n| confounding | seed | debcm / oracle | above best baseline | genre KL | debcm / dual |"
    )
    print("|---|---|---|---|---|---|")
    for world in sorted(worlds, key=lambda each: (each["strength"], each["seed"])):
        recall = {name: row["true_recall_10"] for name, row in world["rows"].items()}
        best = max(recall[name] for name in baselines)
        print(
            f"| {world['strength']:g} | {world['seed']} | {recall['debcm'] / recall['oracle']:.3f} "
            f"| {recall['debcm'] - best:+.4f} | {world['rows']['debcm']['genre_kl']:.4f} "
            f"| {recall['debcm'] / recall['dual encoder']:.2f} |"
        )
    mean = {
        name: np.mean([world["rows"][name]["true_recall_10"] for world in worlds])
        for name in worlds[0]["rows"]
    }
    print(f"\ndebcm / oracle, mean over {len(worlds)} worlds: {mean['debcm'] / mean['oracle']:.3f}")
    strict = mean["debcm"] / mean["oracle, catalogue contrast"]
    print(f"debcm / oracle with catalogue contrast: {strict:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="800 tracks, 4,000 training picks")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--results", type=Path, help="JSON lines to add to and to resume from")
    chosen = parser.parse_args()
    size = SMALL if chosen.small else FULL
    worlds = []
    if chosen.results and chosen.results.exists():
        lines = chosen.results.read_text(encoding="utf-8").splitlines()
        worlds = [world for world in map(json.loads, lines) if world["size"] == size]
    done = {(world["strength"], world["seed"]) for world in worlds}
    wanted = [(strength, seed) for seed in SEEDS for strength in STRENGTHS]
    started = time.perf_counter()
    with ProcessPoolExecutor(chosen.workers, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(run_world, size, *each) for each in wanted if each not in done]
        for job in as_completed(jobs):
            worlds.append(job.result())
            if chosen.results:
                with chosen.results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(worlds[-1]) + "\n")
    print_table(worlds)
    print_targets(worlds)
    print(f"\n{len(worlds)} worlds, {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
