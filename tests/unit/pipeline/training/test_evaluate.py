"""The figures of metrics.json equal those of slow reference code, over a frozen evaluation set."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import polars as pl
import pytest

from models import Model
from models.metrics import Ranks, freeze_negatives
from pipeline.context import Context
from pipeline.errors import ProvenanceError
from pipeline.releases.current import read_current
from pipeline.releases.onnx_towers import MUSIC_TOWER
from pipeline.storage.folder import write_checksums
from pipeline.training import evaluate
from pipeline.training.dataset import load_dataset
from pipeline.training.evaluate import (
    Ranking,
    compare_recall,
    contender_metrics,
    embedding_checks,
    evaluation_slices,
    load_metrics,
    rank_tracks,
)


@pytest.fixture
def metrics(toy) -> dict:
    evaluate.run(Context(toy.settings), toy.run_id)
    return load_metrics(toy.store, toy.run_id)


def slow_ranks(toy) -> tuple[list[int], list[list[int]], np.ndarray]:
    """Compute by plain loops: each pick's rank, its ten best tracks, and its weight."""
    data = load_dataset(toy.store, toy.run_id)
    student = Model.load(toy.store.fetch(f"runs/{toy.run_id}/student"))
    tracks = student.embed_music(data.training.music, data.training.genre_group)
    ranks, best, popularity = [], [], {}
    for video, music in zip(data.test.video, data.test.music, strict=True):
        scores = student.embed_videos(data.training.video[[video]])[0] @ tracks.T
        ranks.append(sum(1 for other in range(len(scores)) if scores[other] > scores[music]))
        best.append(sorted(range(len(scores)), key=lambda row: -scores[row])[:10])
        popularity[music] = popularity.get(music, 0) + 1
    weights = np.array([1 / popularity[music] for music in data.test.music])
    return ranks, best, weights / weights.sum()


def test_recall_ndcg_coverage_and_calibration_equal_plain_loops(toy, metrics: dict) -> None:
    ranks, best, weights = slow_ranks(toy)
    found = metrics["contenders"]["challenger"]
    for k in (10, 25):
        hits = [float(rank < k) for rank in ranks]
        assert found[f"recall@{k}"] == pytest.approx(weights @ hits)
    gains = [1 / math.log2(rank + 2) if rank < 10 else 0.0 for rank in ranks]
    assert found["ndcg@10"] == pytest.approx(weights @ gains)
    assert found["coverage"] == pytest.approx(len({row for rows in best for row in rows}) / 120)
    data = load_dataset(toy.store, toy.run_id)
    group = data.training.genre_group
    shown = [group[row] for rows in best for row in rows]
    picked = [group[row] for row in set(data.test.music.tolist())]
    want = [picked.count(g) / len(picked) for g in range(7)]
    have = [shown.count(g) / len(shown) for g in range(7)]
    assert list(found["genre_share"].values()) == pytest.approx(have)
    assert list(found["genre_share"]) == list(data.groups)
    kl = sum(w * math.log(w / h) for w, h in zip(want, have, strict=True) if w)
    assert found["genre_kl"] == pytest.approx(kl, abs=0.01)
    frame = pl.read_parquet(toy.store.fetch(f"runs/{toy.run_id}/evaluation") / "ranks.parquet")
    assert frame["rank_challenger"].to_list() == ranks


def test_slices_partition_the_test_picks(toy, metrics: dict) -> None:
    data = load_dataset(toy.store, toy.run_id)
    slices = evaluation_slices(data)
    for kind in ("genre ", "music ", "uploader "):
        rows = np.stack([rows for name, rows in slices.items() if name.startswith(kind)])
        assert (rows.sum(axis=0) == 1).all()
    cold = data.music["cold"].to_list()
    assert slices["music cold"].tolist() == [cold[music] for music in data.test.music]
    ranks, _, weights = slow_ranks(toy)
    hits = np.array(ranks) < 10
    rows = slices["genre g1"]
    found = metrics["contenders"]["challenger"]["slices"]["genre g1"]
    assert found["rows"] == rows.sum()
    assert found["recall@10"] == pytest.approx((hits * weights)[rows].sum() / weights[rows].sum())


def test_differences_are_those_of_the_figures_and_in_their_interval(metrics: dict) -> None:
    figures = metrics["contenders"]
    for name, found in metrics["differences"].items():
        difference = figures["challenger"]["recall@10"] - figures[name]["recall@10"]
        assert found["recall@10"]["difference"] == pytest.approx(difference)
        assert found["recall@10"]["low"] <= difference <= found["recall@10"]["high"]
    for found in figures.values():
        low, high = found["intervals"]["recall@10"]
        assert low <= found["recall@10"] <= high


def test_the_bootstrap_resamples_uploaders_not_picks(toy) -> None:
    """If one uploader made all test picks, the interval is as wide as possible."""
    data = load_dataset(toy.store, toy.run_id)
    alone = dataclasses.replace(data.test, uploader=np.zeros_like(data.test.uploader))
    data = dataclasses.replace(data, test=alone)
    rank = np.arange(len(alone)) % 20
    rankings = [
        Ranking(ranks, ranks, rank[:, None])
        for ranks in (Ranks(rank, 0 * rank), Ranks(rank[::-1], 0 * rank))
    ]
    weights, slices = np.ones(len(rank)), {"all": np.ones(len(rank), dtype=bool)}
    figures = contender_metrics(toy.settings, data, rankings[0], weights, slices)
    assert figures["intervals"]["recall@10"] == [-1.0, 1.0]
    found = compare_recall(toy.settings, data, *rankings, weights, slices)
    for part in (found["recall@10"], found["slices"]["all"]):
        assert (part["low"], part["high"]) == (-1.0, 1.0)


def test_a_baseline_with_equal_scores_is_as_good_as_random_lists(toy) -> None:
    """Fault 34: its recall was 0.000, so that any model was better."""
    data = load_dataset(toy.store, toy.run_id)
    tracks = len(data.training.music)
    frozen = freeze_negatives(data.test.music, tracks, 100, seed=0)
    found = rank_tracks(lambda video: np.zeros((len(video), tracks), np.float32), data, frozen)
    assert found.ranks.recall(10) == pytest.approx(10 / tracks)
    assert found.sampled_ranks.recall(10) == pytest.approx(10 / 101)


def test_an_equal_challenger_has_no_difference(published, next_run) -> None:
    run_id = next_run(published)
    evaluate.run(Context(published.settings), run_id)
    found = load_metrics(published.store, run_id)
    assert found["champion"] == {"release_id": published.run_id, "scored": True, "why": ""}
    against = found["differences"]["champion"]
    for part in (against["recall@10"], *against["slices"].values()):
        assert (part["difference"], part["low"], part["high"]) == (0, 0, 0)
    assert all(part["rows"] >= 40 for part in against["slices"].values())


def test_the_evaluation_set_is_frozen(toy, metrics: dict, next_run, published) -> None:
    run_id = next_run(published)
    evaluate.run(Context(published.settings), run_id)
    again = load_metrics(published.store, run_id)["evaluation_set"]
    assert again == metrics["evaluation_set"]
    other = toy.settings.model_copy(update={"seed": 1})
    toy.store.remove(f"runs/{toy.run_id}/evaluation")
    evaluate.run(Context(other), toy.run_id)
    found = load_metrics(toy.store, toy.run_id)
    assert found["evaluation_set"]["sha256"] != metrics["evaluation_set"]["sha256"]
    assert found["contenders"]["challenger"]["recall@10"] == pytest.approx(
        metrics["contenders"]["challenger"]["recall@10"]
    )


def test_a_champion_of_another_extractor_is_not_scored(published, next_run) -> None:
    folder = published.store.fetch(f"releases/{published.run_id}")
    document = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(document | {"visual_extractor": "old@1"}))
    write_checksums(folder)
    run_id = next_run(published)
    summary = evaluate.run(Context(published.settings), run_id)
    assert "old@1" in summary.champion
    assert "champion" not in summary.recall
    assert not load_metrics(published.store, run_id)["champion"]["scored"]


def test_a_run_is_evaluated_once_per_champion(published, next_run, publishing) -> None:
    first, second = next_run(published, days=1), next_run(published, days=2)
    path = f"runs/{first}/evaluation"
    evaluate.run(Context(published.settings), first)
    written = (published.store.fetch(path) / "metrics.json").stat().st_mtime_ns
    evaluate.run(Context(published.settings), first)
    assert (published.store.fetch(path) / "metrics.json").stat().st_mtime_ns == written
    publishing(published, second)
    evaluate.run(Context(published.settings), first)
    assert load_metrics(published.store, first)["champion"]["release_id"] == second


def test_the_evaluation_of_the_current_run_is_kept(published) -> None:
    before = load_metrics(published.store, published.run_id)
    evaluate.run(Context(published.settings), published.run_id)
    assert load_metrics(published.store, published.run_id) == before
    assert before["champion"]["release_id"] is None
    assert read_current(published.store).run_id == published.run_id


def test_without_segments_there_is_no_teacher_to_score(toy) -> None:
    toy.store.remove(f"runs/{toy.run_id}/teacher")
    summary = evaluate.run(Context(toy.settings), toy.run_id)
    assert set(summary.recall) == {"challenger", "random", "popularity"}


def test_a_run_without_a_dataset_is_an_error(toy) -> None:
    with pytest.raises(ProvenanceError, match="runs/2020-01-01-x/dataset"):
        evaluate.run(Context(toy.settings), "2020-01-01-x")


def test_embedding_checks_by_hand() -> None:
    collapsed = np.tile(np.array([[3.0, 4.0]], dtype=np.float32), (5, 1))
    assert embedding_checks(collapsed) == {
        "finite": 1.0,
        "least_norm": 5.0,
        "median_norm": 5.0,
        "largest_norm": 5.0,
        "spread": pytest.approx(0.0),
    }
    axes = np.array([[1, 0], [-1, 0], [0, 1], [0, -1], [np.nan, 0]], dtype=np.float32)
    found = embedding_checks(axes)
    assert found["finite"] == pytest.approx(0.8)
    assert found["spread"] == pytest.approx(1.0)
    assert embedding_checks(np.full((2, 2), np.nan, np.float32))["finite"] == 0.0


def test_the_champion_is_scored_by_its_own_towers(published, next_run) -> None:
    folder = published.store.fetch(f"releases/{published.run_id}")
    run_id = next_run(published)
    (folder / MUSIC_TOWER).unlink()
    with pytest.raises(Exception, match=MUSIC_TOWER):
        evaluate.run(Context(published.settings), run_id)
