"""The report of a run, read as text and in a headless Chromium."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from models.interpolation import STUDENT_SHARES
from pipeline.context import Context
from pipeline.errors import LakeUnavailableError, ProvenanceError
from pipeline.lake.schemas import TABLES
from pipeline.reporting import facts, report
from pipeline.reporting.drift import Drift
from pipeline.reporting.facts import Rejected, Sample, Speed, Track
from pipeline.training import evaluate, gate
from pipeline.training.evaluate import load_metrics

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


def look_up(document: Any, path: str) -> Any:
    for key in path.split("."):
        document = document[int(key)] if isinstance(document, list) else document[key]
    return document


def reject(toy: Any, detail: str) -> None:
    row = {
        "kind": "video",
        "id": HOSTILE,
        "dt": dt.date(2026, 3, 3),
        "step": "ingest",
        "reason": "missing",
        "detail": detail,
        "content_hash": None,
        "attempts": 0,
    }
    toy.lake.upsert("quarantine", TABLES["quarantine"].frame([row]))


def test_figures_on_the_page_equal_metrics_json(
    published: Any, chromium: Any, tmp_path: Path
) -> None:
    summary = report.run(Context(published.settings), published.run_id)
    assert summary.folder == f"reports/{published.run_id}"
    folder = published.store.fetch(summary.folder)
    metrics = load_metrics(published.store, published.run_id)
    page = chromium.new_page()
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto(f"file://{folder / report.PAGE}")
    cells = page.eval_on_selector_all(
        "[data-path]", "found => found.map(e => [e.dataset.path, e.dataset.value, e.textContent])"
    )
    pictures = page.eval_on_selector_all(
        "img", "found => found.map(e => e.complete && e.naturalWidth)"
    )
    assert page.inner_text("#decision") == "publish"
    page.close()
    assert messages == []
    assert [url.split(":")[0] for url in requested if not url.startswith("data:")] == ["file"]
    # Recall, interval, NDCG, calibration and coverage of each contender, differences and slices.
    assert len(cells) > 60
    for path, value, text in cells:
        found = look_up(metrics, path)
        assert float(value) == found, path
        digits = len(text.strip().partition(".")[2])
        assert float(text) == pytest.approx(found, abs=0.51 * 10**-digits), path
    shown = {path for path, _, _ in cells}
    for name in metrics["contenders"]:
        assert {f"contenders.{name}.recall@10", f"contenders.{name}.genre_kl"} <= shown
    assert len(pictures) >= 3
    assert all(pictures)


def test_html_in_manifest_strings_is_escaped(published: Any, chromium: Any, tmp_path: Path) -> None:
    reject(published, HOSTILE)
    values = report.gather(published.settings, published.lake, published.store, published.run_id)
    track = Track(title=HOSTILE, artist=HOSTILE, genre=HOSTILE, score=1.0, picked=True)
    sample = Sample(HOSTILE, dt.date(2026, 3, 3), "", HOSTILE, 1, (track,))
    text = report.render(values | {"samples": [sample]})
    assert "<script" not in text
    assert "<img src=x" not in text
    assert "&lt;img src=x onerror=" in text
    path = tmp_path / "hostile.html"
    path.write_text(text, encoding="utf-8")
    page = chromium.new_page()
    page.goto(f"file://{path}")
    title, body = page.title(), page.inner_text("body")
    scripts = page.eval_on_selector_all("script", "found => found.length")
    page.close()
    assert title == f"Run {published.run_id}"
    assert scripts == 0
    assert body.count("document.title='owned'") >= 5


def test_a_refused_run_gets_a_report(toy: Any) -> None:
    strict = toy.settings.gate.model_copy(update={"min_test_rows": 10_000})
    settings = toy.settings.model_copy(update={"gate": strict})
    evaluate.run(Context(settings), toy.run_id)
    with pytest.raises(ProvenanceError, match="not decided"):
        report.run(Context(settings), toy.run_id)
    gate.decide(Context(settings), toy.run_id)
    report.run(Context(settings), toy.run_id)
    page = (toy.store.fetch(f"reports/{toy.run_id}") / report.PAGE).read_text()
    assert "refuse" in page
    assert "enough_rows" in page
    assert "No release has been published yet" in page


def test_a_report_written_again_replaces_the_old_one(published: Any) -> None:
    arguments = (Context(published.settings), published.run_id)
    report.run(*arguments)
    name = f"reports/{published.run_id}"
    first = (published.store.fetch(name) / report.PAGE).read_text()
    report.run(*arguments)
    assert (published.store.fetch(name) / report.PAGE).read_text() == first
    reject(published, "a file that is not there")
    report.run(*arguments)
    assert "a file that is not there" in (published.store.fetch(name) / report.PAGE).read_text()


def test_every_section_is_filled_for_a_run_with_all_data(published: Any) -> None:
    values = report.gather(published.settings, published.lake, published.store, published.run_id)
    day = dt.date(2026, 3, 3)
    drift = [
        Drift("genres picked", 0.31, 0.05, 200, 900, {"pop": 0.3, "other": 0.01}),
        Drift("visual motion", 0.02, 0.04, 200, 900, {}),
    ]
    speed = [Speed(day, 120, 3.5, 0.25)]
    from pipeline.reporting import plots

    text = report.render(
        values
        | {
            "drift": drift,
            "drift_plot": plots.drift(drift),
            "speed": speed,
            "speed_plot": plots.speed(speed),
            "rejects": [Rejected("missing", "It is not there.", "Deliver it.", 3, ("a", "b"))],
        }
    )
    for expected in ("genres picked", "0.310", "pop 0.300", "3.50", "It is not there. Deliver it."):
        assert expected in text
    history = values["history"]
    assert set(history) == {"teacher", "student"}
    assert len(history["student"]) == published.settings.model.epochs
    assert values["history_plot"].startswith("data:image/svg+xml;base64,")
    assert values["share"] in STUDENT_SHARES
    assert f"are {100 * values['share']:.0f} % of the way from the teacher's" in text


def test_the_page_does_not_contain_metrics_json(published: Any) -> None:
    summary = report.run(Context(published.settings), published.run_id)
    page = (published.store.fetch(summary.folder) / report.PAGE).read_text()
    assert json.dumps(load_metrics(published.store, published.run_id)) not in page
    assert summary.bytes == len(page.encode())


def test_a_lake_that_disappears_during_the_report_is_an_error(
    published: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(published.store.root)
    load = facts.Model.load

    def vanishing(folder: Path) -> Any:
        root.rename(f"{root}.away")
        return load(folder)

    monkeypatch.setattr(facts.Model, "load", vanishing)
    with pytest.raises(LakeUnavailableError, match=str(root)):
        report.run(Context(published.settings), published.run_id)
