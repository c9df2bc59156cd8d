"""The report of a run as text for a terminal."""

from __future__ import annotations

from typing import Any

from pipeline.context import Context
from pipeline.reporting import summary
from pipeline.training import evaluate, gate
from pipeline.training.evaluate import load_metrics


def test_figures_equal_metrics_json(published: Any) -> None:
    screen = summary.text(Context(published.settings), published.run_id)
    figures = load_metrics(published.store, published.run_id)["contenders"]
    (line,) = [line for line in screen.splitlines() if line.startswith("  challenger")]
    low, high = figures["challenger"]["intervals"]["recall@10"]
    expected = [f"{figures['challenger']['recall@10']:.3f}", f"{low:.3f}", "to", f"{high:.3f}"]
    assert line.split()[1:5] == expected
    assert f"releases/{published.run_id}" in screen
    assert screen.count("  1. Title ") == 3


def test_a_refused_run_shows_the_failed_rule_first(toy: Any) -> None:
    strict = toy.settings.gate.model_copy(update={"min_test_rows": 10_000})
    settings = toy.settings.model_copy(update={"gate": strict})
    evaluate.run(Context(settings), toy.run_id)
    assert "no decision yet" in summary.text(Context(settings), toy.run_id)
    gate.decide(Context(settings), toy.run_id)
    screen = summary.text(Context(settings), toy.run_id).splitlines()
    assert screen[:2] == [f"Gate decision on run {toy.run_id}", "  refuse"]
    assert screen[2].startswith("  FAIL  enough_rows: ")
    assert screen.count("  none: no release has been published yet") == 2
