"""Scores a run's student, the champion and the baselines on the same held-out picks.

The folder runs/<run_id>/evaluation holds two files:

- metrics.json: the only source of figures for the gate, the report, the model card and status.
- ranks.parquet: for each test pick, the 0-based rank that each contender gave to the picked track;
  with ties, the expected rank in random order.
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
from pipeline.extraction.clips import Modality
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
# Length of the recommended lists that coverage and genre calibration are computed from.
TOP = 10
RECALL_AT = (10, 25)
# The paper ranks each picked track among 100 sampled negatives, and reports these cut-offs.
SAMPLED_RECALL_AT = (10, 15, 20, 25)
NEGATIVES = 100

# Embeddings and scores are processed in parts to bound memory: rows of embeddings, and scores.
_EMBEDDING_ROWS = 65_536
_SCORES_AT_ONCE = 1 << 24
# An uploader with fewer training picks than this is occasional.
_ACTIVE_FROM = 10


@dataclass(frozen=True)
class EvaluationSummary:
    """The main figures of one evaluation. Recall is weighted by inverse popularity.

    Attributes:
        run_id: the evaluated run.
        rows: number of test picks.
        k: K of the recall below.
        recall: contender -> weighted recall@K over the full catalogue, 0..1.
        genre_kl: contender -> genre calibration (KL divergence) in nats.
        champion: the release that was compared with, or why none was.
    """

    run_id: str
    rows: int
    k: int
    recall: dict[str, float]
    genre_kl: dict[str, float]
    champion: str


@dataclass(frozen=True)
class Ranking:
    """The ranks that one contender gave to the picked tracks of n test picks.

    Attributes:
        ranks: ranks in the full catalogue.
        sampled_ranks: ranks among the picked track and its frozen negatives.
        recommended: int64 [n, TOP], the highest-scored tracks for each pick, best first.
    """

    ranks: metrics.Ranks
    sampled_ranks: metrics.Ranks
    recommended: Int64Array


def run(context: Context, run_id: str) -> EvaluationSummary:
    """Evaluate a run, unless it has an evaluation against the current champion.

    The evaluation of the current run itself is final: there is no other champion to compare with.

    Raises:
        ProvenanceError: the run's dataset or student is missing.
        LakeUnavailableError: the lake cannot be reached.
    """
    with missing_lake_errors(context.store.root):
        return _evaluate(context, run_id)


def _evaluate(context: Context, run_id: str) -> EvaluationSummary:
    store = context.store
    current = read_current(store)
    is_current = current is not None and current.run_id == run_id
    champion = current.release_id if current and not is_current else None
    name = f"runs/{run_id}/evaluation"
    if store.exists(name):
        found = load_metrics(store, run_id)
        if is_current or _was_compared_with(found, champion):
            return _summary(found)
        store.remove(name)
    document, ranks = _evaluation(context, load_dataset(store, run_id), champion)
    with store.writing(name) as folder:
        ranks.write_parquet(folder / RANKS)
        text = json.dumps(document, indent=1, sort_keys=True, allow_nan=False)
        (folder / METRICS).write_text(text + "\n", encoding="utf-8")
    summary = _summary(document)
    log.info("evaluation: %s", summary)
    return summary


def load_metrics(store: Store, run_id: str) -> dict[str, Any]:
    """Read metrics.json of a run.

    Raises:
        ProvenanceError: the run was not evaluated.
    """
    folder = store.fetch(f"runs/{run_id}/evaluation")
    document: dict[str, Any] = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    return document


def _summary(document: Mapping[str, Any]) -> EvaluationSummary:
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


def _was_compared_with(document: Mapping[str, Any], champion: str | None) -> bool:
    """Compare run ids: a revision of a release has the same model."""
    compared: str | None = document["champion"]["release_id"]
    return (compared and run_id_of(compared)) == (champion and run_id_of(champion))


def _evaluation(
    context: Context, dataset: Dataset, champion: str | None
) -> tuple[dict[str, Any], pl.DataFrame]:
    settings, store = context.settings, context.store
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
    score, why = load_champion(store, dataset, champion)
    if score is not None:
        contenders["champion"] = score

    frozen = metrics.freeze_negatives(test.music, len(data.music), NEGATIVES, settings.seed)
    weights = metrics.inverse_popularity_weights(test.music, len(data.music))
    slices = evaluation_slices(dataset)
    rankings = {name: rank_tracks(score, dataset, frozen) for name, score in contenders.items()}
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
            name: contender_metrics(settings, dataset, ranking, weights, slices)
            for name, ranking in rankings.items()
            if len(test)
        },
        "differences": {
            name: compare_recall(
                settings, dataset, rankings["challenger"], ranking, weights, slices
            )
            for name, ranking in rankings.items()
            if len(test) and name != "challenger"
        },
    }
    columns = {f"rank_{name}": ranking.ranks.expected for name, ranking in rankings.items()}
    ranks = pl.DataFrame({"video": test.video, "music": test.music, "weight": weights, **columns})
    return document, ranks


def load_champion(
    store: Store, dataset: Dataset, champion: str | None
) -> tuple[Scorer | None, str]:
    """Open the towers of the champion's release as a scorer over a run's features.

    Returns:
        (scorer, ""), or (None, the reason) if the champion cannot score these features.
    """
    if champion is None:
        return None, "there is no current release yet"
    folder = store.fetch(f"releases/{champion}")
    info = read_release_info(folder)
    for modality, theirs, ours in (
        (Modality.VISUAL, info.visual_extractor, dataset.visual_extractor),
        (Modality.AUDIO, info.audio_extractor, dataset.audio_extractor),
    ):
        if theirs != ours:
            return None, f"{champion} reads {modality} features of {theirs}, this run has {ours}"
    if info.groups != dataset.groups:
        return None, f"{champion} has other genre groups: {', '.join(info.groups)}"
    data = dataset.training
    video = open_tower(folder, VIDEO_TOWER, info.run_id)
    music = open_tower(folder, MUSIC_TOWER, info.run_id)
    tracks = run_tower(music, data.music, data.genre_group)
    return lambda rows: run_tower(video, rows) @ tracks.T, ""


def rank_tracks(score: Scorer, dataset: Dataset, frozen: metrics.FrozenNegatives) -> Ranking:
    """Rank the picked track of every test pick by the scores of one contender.

    Scores are computed in parts: all of them at once would not fit into memory.
    """
    test = dataset.test
    tracks = len(dataset.training.music)
    found: list[metrics.Ranks] = []
    sampled_found: list[metrics.Ranks] = []
    recommended = np.empty((len(test), min(TOP, tracks)), dtype=np.int64)
    step = max(1, _SCORES_AT_ONCE // tracks)
    for start in range(0, len(test), step):
        rows = slice(start, start + step)
        scores = score(dataset.training.video[test.video[rows]])
        # The gate refuses a model with NaN and gives the reason. Here NaN only ranks last.
        np.nan_to_num(scores, copy=False, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
        found.append(metrics.ranks(scores, test.music[rows]))
        part = metrics.FrozenNegatives(frozen.candidates[rows], frozen.digest)
        sampled = metrics.sampled_scores(scores, part)
        sampled_found.append(metrics.ranks(sampled, np.zeros(len(sampled), dtype=np.int64)))
        recommended[rows] = metrics.top(scores, TOP)
    return Ranking(_joined(found), _joined(sampled_found), recommended)


def _joined(parts: list[metrics.Ranks]) -> metrics.Ranks:
    none = np.zeros(0, dtype=np.int64)
    return metrics.Ranks(
        np.concatenate([none, *(part.better for part in parts)]),
        np.concatenate([none, *(part.tied for part in parts)]),
    )


def contender_metrics(
    settings: Settings,
    dataset: Dataset,
    ranking: Ranking,
    weights: Float64Array,
    slices: dict[str, BoolArray],
) -> dict[str, Any]:
    """Return the entry of one contender in metrics.json.

    Args:
        settings: bounds and seed of the bootstrap, and K.
        dataset: the run's dataset, with n test picks.
        ranking: the contender's ranks.
        weights: float64 [n], inverse popularity of the picked tracks; sums to 1.
        slices: name -> bool [n], see `evaluation_slices`.
    """
    data = dataset.training
    k = settings.gate.recall_k
    rounds, seed = settings.gate.bootstrap_rounds, settings.seed
    zero = np.zeros(len(weights))
    means: dict[str, float] = {}
    intervals: dict[str, list[float]] = {}
    measures = {f"recall@{cut}": ranking.ranks.recall(cut) for cut in sorted({*RECALL_AT, k})}
    measures["ndcg@10"] = ranking.ranks.ndcg(10)
    for name, values in measures.items():
        mean, low, high = metrics.paired_bootstrap(
            values, zero, weights, dataset.test.uploader, rounds, seed
        )
        means[name] = mean
        intervals[name] = [low, high]
    # Each picked track counts once, so that popular tracks do not dominate the genre shares.
    picked = np.unique(dataset.test.music)[None, :]
    share = metrics.genre_share(ranking.recommended, data.genre_group, data.n_groups)
    return {
        **means,
        "intervals": intervals,
        "unweighted": {f"recall@{k}": float(ranking.ranks.recall(k).mean())},
        "sampled": {
            **{
                f"recall@{cut}": float(ranking.sampled_ranks.recall(cut) @ weights)
                for cut in SAMPLED_RECALL_AT
            },
            "ndcg@10": float(ranking.sampled_ranks.ndcg(10) @ weights),
        },
        "genre_kl": metrics.genre_calibration(
            ranking.recommended, picked, data.genre_group, data.n_groups
        ),
        "genre_share": dict(zip(dataset.groups, share.tolist(), strict=True)),
        "coverage": metrics.coverage(ranking.recommended, len(data.music)),
        "slices": {
            name: {"rows": int(slices[name].sum()), f"recall@{k}": value}
            for name, value in metrics.by_slice(ranking.ranks.recall(k), weights, slices).items()
        },
    }


def compare_recall(
    settings: Settings,
    dataset: Dataset,
    a: Ranking,
    b: Ranking,
    weights: Float64Array,
    slices: dict[str, BoolArray],
) -> dict[str, Any]:
    """Return recall@K of `a` minus that of `b`, overall and per slice, with 95 % intervals.

    The paired bootstrap resamples uploaders, not picks: the picks of one uploader depend on each
    other, and resampling them one by one would make the intervals too narrow.

    Args:
        settings: K, rounds of the bootstrap, smallest slice.
        dataset: the run's dataset, with n test picks.
        a: ranks of the first contender.
        b: ranks of the second contender.
        weights: float64 [n], see `contender_metrics`.
        slices: name -> bool [n], see `evaluation_slices`.
    """
    gate, uploader = settings.gate, dataset.test.uploader
    k = gate.recall_k
    first, second = a.ranks.recall(k), b.ranks.recall(k)

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


def evaluation_slices(dataset: Dataset) -> dict[str, BoolArray]:
    """Group the test picks by genre group, by cold or known track, and by uploader activity.

    Returns:
        Slice name -> bool [n]; slices without picks are left out. An uploader is "new" without
        training picks, "occasional" with fewer than ten, and "active" with ten or more.
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
        "uploader occasional": (activity > 0) & (activity < _ACTIVE_FROM),
        "uploader active": activity >= _ACTIVE_FROM,
    }
    return {name: rows for name, rows in slices.items() if rows.any()}


def embedding_checks(embeddings: Float32Array) -> dict[str, Any]:
    """Measure whether a tower is broken (NaN, exploding norms) or collapsed (no spread).

    Args:
        embeddings: float32 [N, D].

    Returns:
        finite: share of the rows without NaN or infinity, 0..1. Over the finite rows:
        least_norm, median_norm and largest_norm; spread = 1 - ||mean of the unit vectors||^2,
        which is 0 if all vectors have the same direction and near 1 if directions are uniform.
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
    unit_sum = np.zeros(embeddings.shape[1])
    # In parts: the whole catalogue in float64 would be the largest array of the step.
    for start in range(0, len(embeddings), _EMBEDDING_ROWS):
        part = slice(start, start + _EMBEDDING_ROWS)
        rows = embeddings[part][finite[part]].astype(np.float64)
        lengths = np.linalg.norm(rows, axis=1)
        norms = np.append(norms, lengths)
        unit_sum += (rows / np.maximum(lengths, 1e-12)[:, None]).sum(axis=0)
    return {
        "finite": float(finite.mean()),
        "least_norm": float(norms.min()),
        "median_norm": float(np.median(norms)),
        "largest_norm": float(norms.max()),
        "spread": float(1.0 - np.square(unit_sum / len(norms)).sum()),
    }


def _digest(dataset: Dataset, negatives: str) -> str:
    digest = hashlib.sha256(negatives.encode())
    for array in (dataset.test.video, dataset.test.music, dataset.test.time):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
