"""The model card shows the figures of the release, also where fields are unusual."""

from __future__ import annotations

from pipeline.publishing.model_card import model_card
from pipeline.releases.files import read_release_info
from pipeline.training.evaluate import load_metrics


def test_the_card_has_the_figures_of_metrics_json(published) -> None:
    folder = published.store.fetch(f"releases/{published.run_id}")
    card = (folder / "model_card.md").read_text()
    metrics = load_metrics(published.store, published.run_id)
    found = metrics["contenders"]["challenger"]
    low, high = found["intervals"]["recall@10"]
    assert f"{found['recall@10']:.3f} [{low:.3f}, {high:.3f}]" in card
    for name, part in found["slices"].items():
        assert f"| {name} | {part['rows']} | {part['recall@10']:.3f} |  |" in card
    assert "| tracks | 120 |" in card
    assert "No champion was scored: there is no current release yet." in card
    assert "| beats_random | passed |" in card
    assert read_release_info(folder).visual_extractor in card


def test_the_card_of_a_second_release_names_the_first(published, next_run, publishing) -> None:
    run_id = next_run(published)
    publishing(published, run_id)
    card = (published.store.fetch(f"releases/{run_id}") / "model_card.md").read_text()
    assert f"The champion was {published.run_id}." in card
    assert f"Aligned with {published.run_id}" in card
    assert "| music | 120 | 0.0000 |" in card


def test_a_table_cell_with_pipes_and_line_breaks_is_escaped(published) -> None:
    folder = published.store.fetch(f"releases/{published.run_id}")
    info = read_release_info(folder).model_copy(update={"groups": ("a|b", "c\nd")})
    metrics = load_metrics(published.store, published.run_id)
    index = {"kind": "flat", "tracks": 1, "queries": 1, "k": 1, "recall": 1.0}
    card = model_card(info, metrics | {"index": index, "continuity": None})
    assert "| genre groups | a\\|b, c d |" in card
