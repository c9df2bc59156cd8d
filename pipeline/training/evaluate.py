"""Score a run's student, the champion and the baselines on the same held-out rows.

The folder runs/<run_id>/evaluation holds metrics.json, the one source that gate, report, model
card and status read, and ranks.parquet, the rank of every test row's track by every contender.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from features.arrays import BoolArray, Float32Array, Float64Array, Int64Array
from models import Model, metrics
from models.baselines import Scorer, model_scorer, popularity_scorer, random_scorer
from pipeline.context import Context
from pipeline.releases.current import read_current, run_id_of
from pipeline.releases.files import read_release_info
from pipeline.releases.onnx_towers import MUSIC_TOWER, VIDEO_TOWER, open_tower, run_tower
from pipeline.settings.load import Settings
from pipeline.storage.presence import missing_lake_errors
from pipeline.storage.store import Store
from pipeline.training.dataset import Dataset, load_dataset

log = logging.getLogger(__name__)


METRICS = "metrics.json"
RANKS = "ranks.parquet"
TOP = 10
RECALL_AT = (10, 25)
SAMPLED_RECALL_AT = (10, 15, 20, 25)
NEGATIVES = 100

# Rows of embeddings that are looked at together.
_ROWS = 65_536
_SCORES_AT_ONCE = 1 << 24
_OCCASIONAL = 10
"""Uploaders with fewer training picks than this are occasional."""


@dataclass(frozen=True)
class EvaluationSummary:
    """What one evaluation found; recall is weighted by inverse popularity.

    Attributes:
        run_id: the run that was judged.
        rows: test rows.
        k: K of the recall below.
        recall: contender -> weighted recall@K over the full catalogue.
        genre_kl: contender -> genre calibration in nats.
        champion: release that was compared with, or why there was none.
    """

    run_id: str
    rows: int
    k: int
    recall: dict[str, float]
    genre_kl: dict[str, float]
    champion: str


@dataclass(frozen=True)
class Judged:
    """How one contender ranked the test rows' tracks.

    Attributes:
        rank: int64 [n], 0-based, in the full catalogue.
        sampled_rank: int64 [n], among the track and its frozen negatives.
        recommended: int64 [n, TOP], the best tracks of each row.
    """

    rank: Int64Array
    sampled_rank: Int64Array
    recommended: Int64Array


def run(context: Context, run_id: str) -> EvaluationSummary:
    """Write runs/<run_id>/evaluation, unless it is there for the same champion.

    Raises:
        ProvenanceError: the run's dataset or student is missing.
        LakeUnavailableError: the lake has gone away.
    """
    settings, store = context.settings, context.store
    with missing_lake_errors(store.root):
        return _evaluate(settings, store, run_id)


def _evaluate(settings: Settings, store: Store, run_id: str) -> EvaluationSummary:
    current = read_current(store)
    champion = current.release_id if current and current.run_id != run_id else None
    name = f"runs/{run_id}/evaluation"
    if store.exists(name):
        found = load_metrics(store, run_id)
        if (current is not None and current.run_id == run_id) or _same(found, champion):
            return summarise(found)
        store.remove(name)
    dataset = load_dataset(store, run_id)
    document, ranks = _evaluation(settings, store, dataset, champion)
    with store.writing(name) as folder:
        ranks.write_parquet(folder / RANKS)
        text = json.dumps(document, indent=1, sort_keys=True, allow_nan=False)
        (folder / METRICS).write_text(text + "\n", encoding="utf-8")
    summary = summarise(document)
    log.info("evaluation: %s", summary)
    return summary


def load_metrics(store: Store, run_id: str) -> dict[str, Any]:
    """metrics.json of a run.

    Raises:
        ProvenanceError: the run was not evaluated.
    """
    folder = store.fetch(f"runs/{run_id}/evaluation")
    document: dict[str, Any] = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    return document


def summarise(document: Mapping[str, Any]) -> EvaluationSummary:
    """The figures of a metrics.json that fit on a line."""
    k = document["evaluation_set"]["k"]
    contenders = document["contenders"]
    champion = document["champion"]
    return EvaluationSummary(
        run_id=document["run_id"],
        rows=document["evaluation_set"]["rows"],
        k=k,
        recall={name: figures[f"recall@{k}"] for name, figures in contenders.items()},
        genre_kl={name: figures["genre_kl"] for name, figures in contenders.items()},
        champion=champion["release_id"] if champion["scored"] else champion["why"],
    )


def _same(document: Mapping[str, Any], champion: str | None) -> bool:
    judged = document["champion"]["release_id"]
    return (run_id_of(judged) if judged else None) == (run_id_of(champion) if champion else None)


def _evaluation(
    settings: Settings, store: Store, dataset: Dataset, champion: str | None
) -> tuple[dict[str, Any], pl.DataFrame]:
    student = Model.load(store.fetch(f"runs/{dataset.run_id}/student"))
    data, test = dataset.training, dataset.test
    checks = {
        "video": embedding_checks(student.embed_videos(data.video)),
        "music": embedding_checks(student.embed_music(data.music, data.genre_group)),
    }
    contenders: dict[str, Scorer] = {
        "challenger": model_scorer(student, data),
        "random": random_scorer(data, settings.seed),
        "popularity": popularity_scorer(data),
    }
    if store.exists(f"runs/{dataset.run_id}/teacher"):
        teacher = Model.load(store.fetch(f"runs/{dataset.run_id}/teacher"))
        contenders["teacher"] = model_scorer(teacher, data)
    score, why = champion_scorer(store, dataset, champion)
    if score is not None:
        contenders["champion"] = score

    frozen = metrics.freeze_negatives(test.music, len(data.music), NEGATIVES, settings.seed)
    weights = metrics.inverse_popularity_weights(test.music, len(data.music))
    slices = slices_of(dataset)
    judged = {name: judge(score, dataset, frozen) for name, score in contenders.items()}
    document = {
        "run_id": dataset.run_id,
        "as_of": dataset.as_of.isoformat(),
        "champion": {"release_id": champion, "scored": score is not None, "why": why},
        "evaluation_set": {
            "rows": len(test),
            "tracks": len(data.music),
            "k": settings.gate.recall_k,
            "negatives": frozen.candidates.shape[1] - 1,
            "sha256": _digest(dataset, frozen.digest),
        },
        "embeddings": checks,
        "contenders": {
            name: contender_figures(settings, dataset, result, weights, slices)
            for name, result in judged.items()
            if len(test)
        },
        "differences": {
            name: differences(settings, dataset, judged["challenger"], result, weights, slices)
            for name, result in judged.items()
            if len(test) and name != "challenger"
        },
    }
    columns = {f"rank_{name}": result.rank for name, result in judged.items()}
    ranks = pl.DataFrame({"video": test.video, "music": test.music, "weight": weights, **columns})
    return document, ranks


def champion_scorer(
    store: Store, dataset: Dataset, champion: str | None
) -> tuple[Scorer | None, str]:
    """The current release as a scorer, or None and why it cannot be scored on these rows."""
    if champion is None:
        return None, "there is no current release yet"
    folder = store.fetch(f"releases/{champion}")
    manifest = read_release_info(folder)
    for kind, theirs, ours in (
        ("visual", manifest.visual_extractor, dataset.visual_extractor),
        ("audio", manifest.audio_extractor, dataset.audio_extractor),
    ):
        if theirs != ours:
            return None, f"{champion} reads {kind} features of {theirs}, this run has {ours}"
    if manifest.groups != dataset.groups:
        return None, f"{champion} knows the genre groups {', '.join(manifest.groups)} instead"
    data = dataset.training
    video = open_tower(folder, VIDEO_TOWER, manifest.run_id)
    music = open_tower(folder, MUSIC_TOWER, manifest.run_id)
    tracks = run_tower(music, data.music, data.genre_group)
    return lambda rows: run_tower(video, rows) @ tracks.T, ""


def judge(score: Scorer, dataset: Dataset, frozen: metrics.FrozenNegatives) -> Judged:
    """Rank every test row's track by one contender, a bounded number of scores at a time."""
    test = dataset.test
    tracks = len(dataset.training.music)
    rank = np.empty(len(test), dtype=np.int64)
    sampled_rank = np.empty(len(test), dtype=np.int64)
    recommended = np.empty((len(test), min(TOP, tracks)), dtype=np.int64)
    step = max(1, _SCORES_AT_ONCE // tracks)
    for start in range(0, len(test), step):
        rows = slice(start, start + step)
        scores = score(dataset.training.video[test.video[rows]])
        # A broken tower ends at the gate, with its reason, not here: what it scores stands last.
        np.nan_to_num(scores, copy=False, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
        rank[rows] = metrics.ranks(scores, test.music[rows])
        part = metrics.FrozenNegatives(frozen.candidates[rows], frozen.digest)
        sampled = metrics.sampled_scores(scores, part)
        sampled_rank[rows] = metrics.ranks(sampled, np.zeros(len(sampled), dtype=np.int64))
        recommended[rows] = metrics.top(scores, TOP)
    return Judged(rank, sampled_rank, recommended)


def contender_figures(
    settings: Settings,
    dataset: Dataset,
    judged: Judged,
    weights: Float64Array,
    slices: dict[str, BoolArray],
) -> dict[str, Any]:
    """All figures of one contender; means over rows are weighted by inverse popularity."""
    data = dataset.training
    k = settings.gate.recall_k
    rounds, seed = settings.gate.bootstrap_rounds, settings.seed
    nothing = np.zeros(len(weights))
    figures: dict[str, Any] = {}
    intervals: dict[str, list[float]] = {}
    measured = {f"recall@{cut}": recall(judged.rank, cut) for cut in sorted({*RECALL_AT, k})}
    measured["ndcg@10"] = ndcg(judged.rank, 10)
    for name, values in measured.items():
        mean, low, high = metrics.paired_bootstrap(
            values, nothing, weights, dataset.test.uploader, rounds, seed
        )
        figures[name] = mean
        intervals[name] = [low, high]
    # Each picked track counts once: the genres picked, without the picks' popularity.
    picked = np.unique(dataset.test.music)[None, :]
    share = metrics.genre_share(judged.recommended, data.genre_group, data.n_groups)
    return {
        **figures,
        "intervals": intervals,
        "unweighted": {f"recall@{k}": float(recall(judged.rank, k).mean())},
        "sampled": {
            **{
                f"recall@{cut}": float(recall(judged.sampled_rank, cut) @ weights)
                for cut in SAMPLED_RECALL_AT
            },
            "ndcg@10": float(ndcg(judged.sampled_rank, 10) @ weights),
        },
        "genre_kl": metrics.genre_calibration(
            judged.recommended, picked, data.genre_group, data.n_groups
        ),
        "genre_share": dict(zip(dataset.groups, share.tolist(), strict=True)),
        "coverage": metrics.coverage(judged.recommended, len(data.music)),
        "slices": {
            name: {"rows": int(slices[name].sum()), f"recall@{k}": value}
            for name, value in metrics.by_slice(recall(judged.rank, k), weights, slices).items()
        },
    }


def differences(
    settings: Settings,
    dataset: Dataset,
    a: Judged,
    b: Judged,
    weights: Float64Array,
    slices: dict[str, BoolArray],
) -> dict[str, Any]:
    """Recall of `a` less that of `b`, with paired bootstrap intervals, overall and by slice.

    Uploaders are drawn, not rows: one who uploads much would narrow the interval for everybody.
    """
    gate, uploader = settings.gate, dataset.test.uploader
    k = gate.recall_k
    first, second = recall(a.rank, k), recall(b.rank, k)

    def compare(rows: BoolArray) -> dict[str, float]:
        difference, low, high = metrics.paired_bootstrap(
            first[rows], second[rows], weights[rows], uploader[rows], gate.bootstrap_rounds, 0
        )
        return {"rows": int(rows.sum()), "difference": difference, "low": low, "high": high}

    everywhere = np.ones(len(weights), dtype=np.bool_)
    return {
        f"recall@{k}": compare(everywhere),
        "slices": {
            name: compare(rows) for name, rows in slices.items() if rows.sum() >= gate.slice_rows
        },
    }


def recall(rank: Int64Array, k: int) -> Float64Array:
    """float64 [n]: 1 where the rank is below k. The track is one, so recall is a hit."""
    return (rank < k).astype(np.float64)


def ndcg(rank: Int64Array, k: int) -> Float64Array:
    """float64 [n]: 1 / log2(rank + 2) where the rank is below k, else 0."""
    return np.where(rank < k, 1.0 / np.log2(rank + 2.0), 0.0)


def slices_of(dataset: Dataset) -> dict[str, BoolArray]:
    """The test rows of each genre group, of cold and known tracks, and of kinds of uploaders.

    Returns:
        Name -> bool [n], for slices that have rows. Uploaders are new, occasional or active by
        their number of training picks: none, fewer than ten, ten or more.
    """
    test, train = dataset.test, dataset.training.train
    group = dataset.training.genre_group[test.music]
    cold = dataset.music["cold"].to_numpy()[test.music]
    highest = max([*test.uploader.tolist(), *train.uploader.tolist()], default=0)
    activity = np.bincount(train.uploader, minlength=highest + 1)[test.uploader]
    slices = {f"genre {name}": group == index for index, name in enumerate(dataset.groups)}
    slices |= {"music cold": cold, "music known": ~cold}
    slices |= {
        "uploader new": activity == 0,
        "uploader occasional": (activity > 0) & (activity < _OCCASIONAL),
        "uploader active": activity >= _OCCASIONAL,
    }
    return {name: rows for name, rows in slices.items() if rows.any()}


def embedding_checks(embeddings: Float32Array) -> dict[str, Any]:
    """What shows a broken or collapsed model.

    Returns:
        finite: share of the rows without NaN or infinity; least_norm, median_norm and
        largest_norm of these; spread: 1 - ||mean of the unit vectors||^2, 0 where all vectors
        point one way, near 1 where they point everywhere.
    """
    finite: BoolArray = np.logical_and.reduce(np.isfinite(embeddings), axis=1)
    if not finite.any():
        return {
            "finite": 0.0,
            "least_norm": 0.0,
            "median_norm": 0.0,
            "largest_norm": 0.0,
            "spread": 0.0,
        }
    norms = np.empty(0)
    pointing = np.zeros(embeddings.shape[1])
    # A catalogue in double precision would be the largest array of the step.
    for start in range(0, len(embeddings), _ROWS):
        part = slice(start, start + _ROWS)
        rows = embeddings[part][finite[part]].astype(np.float64)
        lengths = np.linalg.norm(rows, axis=1)
        norms = np.append(norms, lengths)
        pointing += (rows / np.maximum(lengths, 1e-12)[:, None]).sum(axis=0)
    return {
        "finite": float(finite.mean()),
        "least_norm": float(norms.min()),
        "median_norm": float(np.median(norms)),
        "largest_norm": float(norms.max()),
        "spread": float(1.0 - np.square(pointing / len(norms)).sum()),
    }


def _digest(dataset: Dataset, negatives: str) -> str:
    digest = hashlib.sha256(negatives.encode())
    for array in (dataset.test.video, dataset.test.music, dataset.test.time):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
