"""Each kind of bad challenger is refused by the rule made for it."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from models import Model, Picks
from models.train import train_student
from pipeline.context import Context
from pipeline.errors import ProvenanceError
from pipeline.settings.sections import GateSettings
from pipeline.training import evaluate, gate
from pipeline.training.dataset import load_dataset
from pipeline.training.gate import Decision, ForceError, ForceRequest, apply_rules, read_decision


def evaluate_and_decide(toy, run_id: str) -> Decision:
    evaluate.run(Context(toy.settings), run_id)
    return gate.decide(Context(toy.settings), run_id)


def broken(decision: Decision) -> set[str]:
    return {verdict.rule for verdict in decision.failed}


@torch.no_grad()
def add_noise(model: Model, strength: float) -> None:
    generator = torch.Generator().manual_seed(0)
    for weight in model.network.parameters():
        noise = torch.randn(weight.shape, generator=generator)
        weight += strength * weight.square().mean().sqrt() * noise


def test_a_first_run_needs_the_absolute_rules_only(toy) -> None:
    decision = evaluate_and_decide(toy, toy.run_id)
    assert decision.decision == "publish"
    rules = {verdict.rule for verdict in decision.verdicts}
    assert {"enough_rows", "beats_random", "beats_popularity", "coverage", "calibration"} <= rules
    assert not any(rule.startswith(("champion", "slice")) for rule in rules)


def test_a_worse_challenger_fails_the_champion_rule(published, next_run) -> None:
    run_id = next_run(published, lambda model: add_noise(model, 1.0))
    decision = evaluate_and_decide(published, run_id)
    assert decision.decision == "refuse"
    assert "champion_recall" in broken(decision)


def test_a_collapsed_challenger_fails_the_spread_rules(published, next_run) -> None:
    @torch.no_grad()
    def collapse(model: Model) -> None:
        for tower in (model.network.video, model.network.music):
            for layer in (tower.linear, tower.bend):
                layer.weight.zero_()
                layer.bias.fill_(1.0)
        model.network.adjustment.zero_()

    decision = evaluate_and_decide(published, next_run(published, collapse))
    assert {"spread_video", "spread_music", "beats_random", "champion_recall"} <= broken(decision)


def test_a_challenger_with_nan_fails_the_finite_rule(published, next_run) -> None:
    @torch.no_grad()
    def poison(model: Model) -> None:
        model.network.video.linear.weight[0, 0] = float("nan")

    decision = evaluate_and_decide(published, next_run(published, poison))
    assert "finite_video" in broken(decision)
    assert "finite_music" not in broken(decision)


def test_a_challenger_of_one_genre_fails_the_calibration_rules(published, next_run) -> None:
    @torch.no_grad()
    def one_genre(model: Model) -> None:
        model.network.adjustment[0] = 1000.0

    decision = evaluate_and_decide(published, next_run(published, one_genre))
    assert {"calibration", "champion_calibration"} <= broken(decision)


def test_one_huge_embedding_fails_the_norm_rule(published, next_run) -> None:
    @torch.no_grad()
    def blow_up(model: Model) -> None:
        # Only the tracks of group "g5" get a huge norm.
        model.network.adjustment[5] = 1e6

    decision = evaluate_and_decide(published, next_run(published, blow_up))
    assert "norm_music" in broken(decision)


def test_a_challenger_trained_on_a_tenth_fails_the_champion_rule(published, next_run) -> None:
    def on_a_tenth(model: Model) -> Model:
        data = load_dataset(published.store, published.run_id).training
        rows = np.arange(0, len(data.train), 10)
        picks = Picks(*(getattr(data.train, f.name)[rows] for f in dataclasses.fields(Picks)))
        few = dataclasses.replace(data, train=picks)
        config = model.config.model_copy(update={"teacher": False, "distill": "none"})
        return train_student(few, None, config)

    decision = evaluate_and_decide(published, next_run(published, on_a_tenth))
    assert "champion_recall" in broken(decision)
    assert not {v for v in broken(decision) if v.startswith(("finite", "norm", "spread"))}


def test_a_small_real_improvement_passes(toy, next_run, publishing) -> None:
    publishing(toy, next_run(toy, lambda model: add_noise(model, 0.1), days=1))
    decision = evaluate_and_decide(toy, next_run(toy, days=2))
    assert decision.decision == "publish", decision.failed
    (rule,) = [v for v in decision.verdicts if v.rule == "champion_recall"]
    assert "difference +0." in rule.text


def test_too_few_test_picks_are_refused(toy) -> None:
    strict = toy.settings.gate.model_copy(update={"min_test_rows": 271})
    settings = toy.settings.model_copy(update={"gate": strict})
    evaluate.run(Context(settings), toy.run_id)
    decision = gate.decide(Context(settings), toy.run_id)
    assert broken(decision) == {"enough_rows"}
    assert "270 of 271 rows" in decision.failed[0].text


def test_refusals_and_forced_publications_are_stored_with_their_reasons(
    published, next_run
) -> None:
    run_id = next_run(published, lambda model: add_noise(model, 1.0))
    refused = evaluate_and_decide(published, run_id)
    assert read_decision(published.lake, run_id) == refused
    force = ForceRequest("Ada", "the champion's extractor is withdrawn")
    forced = gate.decide(Context(published.settings), run_id, force)
    assert forced.decision == "forced"
    assert forced.failed == refused.failed
    rows = published.lake.read("runs").filter(run_id=run_id)
    assert rows["decision"].to_list() == ["forced"]
    assert json.loads(rows["reasons"][0])["force"] == {
        "by": "Ada",
        "reason": "the champion's extractor is withdrawn",
    }
    assert read_decision(published.lake, run_id) == forced
    # A retry keeps the force, as long as the verdicts are the same.
    assert gate.decide(Context(published.settings), run_id) == forced
    stricter = published.settings.gate.model_copy(update={"min_test_rows": 10_000})
    changed = published.settings.model_copy(update={"gate": stricter})
    assert gate.decide(Context(changed), run_id).decision == "refuse"


def test_force_is_not_stored_if_it_was_not_needed(toy) -> None:
    evaluate.run(Context(toy.settings), toy.run_id)
    decision = gate.decide(Context(toy.settings), toy.run_id, ForceRequest("Ada", "in a hurry"))
    assert decision.decision == "publish"
    assert decision.force is None


@pytest.mark.parametrize(("by", "reason"), [("", "because"), ("Ada", "  ")])
def test_force_without_a_name_or_a_reason_is_an_error(by: str, reason: str) -> None:
    with pytest.raises(ForceError, match="--by NAME"):
        ForceRequest(by, reason)


def test_a_run_without_an_evaluation_is_an_error(toy) -> None:
    with pytest.raises(ProvenanceError, match="evaluation"):
        gate.decide(Context(toy.settings), toy.run_id)


def document(champion: dict[str, float], slices: dict[str, dict[str, float]]) -> dict:
    """Make a metrics.json in which only the comparison with the champion can fail."""
    fine = {"finite": 1.0, "spread": 0.5, "largest_norm": 1.0, "median_norm": 1.0}
    figures = {"recall@10": 0.4, "genre_kl": 0.1, "coverage": 0.5}
    better = {"rows": 500, "difference": 0.3, "low": 0.2, "high": 0.4}
    level = {name: {"rows": found["rows"], "recall@10": 0.4} for name, found in slices.items()}
    return {
        "evaluation_set": {"rows": 500},
        "embeddings": {"video": fine, "music": fine},
        "champion": {"scored": True},
        "contenders": {
            "challenger": figures,
            "random": {"recall@10": 0.1, "coverage": 1.0},
            "popularity": {"recall@10": 0.1},
            "champion": {**figures, "recall@10": 0.4, "slices": level},
        },
        "differences": {
            "random": {"recall@10": better},
            "popularity": {"recall@10": better},
            "champion": {"recall@10": champion, "slices": slices},
        },
    }


@pytest.mark.parametrize(
    ("difference", "low", "high", "lost"),
    [
        (-0.021, -0.04, -0.001, True),  # more than 5 % of 0.4, and significant
        (-0.021, -0.06, 0.001, False),  # as large, but not significant
        (-0.019, -0.02, -0.018, False),  # significant, and tolerated
        (0.01, 0.001, 0.02, False),
    ],
)
def test_a_loss_must_be_larger_than_allowed_and_significant(
    difference: float, low: float, high: float, lost: bool
) -> None:
    found = {"rows": 500, "difference": difference, "low": low, "high": high}
    verdicts = apply_rules(GateSettings(), document(found, {}))
    assert [v.rule for v in verdicts if not v.passed] == (["champion_recall"] if lost else [])


def test_a_loss_in_one_slice_names_the_slice() -> None:
    same = {"rows": 500, "difference": 0.0, "low": -0.01, "high": 0.01}
    lost = {"rows": 60, "difference": -0.1, "low": -0.15, "high": -0.05}
    verdicts = apply_rules(GateSettings(), document(same, {"music cold": lost, "genre pop": same}))
    assert [v.rule for v in verdicts if not v.passed] == ["slice_music cold"]


def test_calibration_may_worsen_by_its_bound_only() -> None:
    same = {"rows": 500, "difference": 0.0, "low": -0.01, "high": 0.01}
    metrics = document(same, {})
    metrics["contenders"]["challenger"] = {"recall@10": 0.4, "genre_kl": 0.21, "coverage": 0.5}
    verdicts = apply_rules(GateSettings(), metrics)
    assert [v.rule for v in verdicts if not v.passed] == ["champion_calibration"]


def test_coverage_is_compared_with_that_of_random_lists() -> None:
    same = {"rows": 500, "difference": 0.0, "low": -0.01, "high": 0.01}
    metrics = document(same, {})
    metrics["contenders"]["challenger"] = {"recall@10": 0.4, "genre_kl": 0.1, "coverage": 0.03}
    assert [v.rule for v in apply_rules(GateSettings(), metrics) if not v.passed] == ["coverage"]
    metrics["contenders"]["random"]["coverage"] = 0.3
    assert all(v.passed for v in apply_rules(GateSettings(), metrics))
