"""docs/reliability.md shows the recorded results."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.faults import fault_report


def test_the_page_shows_the_stored_results() -> None:
    results = json.loads(fault_report.RESULTS.read_text(encoding="utf-8"))
    assert fault_report.PAGE.read_text(encoding="utf-8") == fault_report.page(results)


def test_a_recorded_row_replaces_its_old_row_and_keeps_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = {"injected": "x", "times": "1", "result": "y", "run": "2026-01-01"}
    results, page = tmp_path / "results.json", tmp_path / "reliability.md"
    results.write_text(json.dumps({"disk full": old, "kill": old}), encoding="utf-8")
    monkeypatch.setattr(fault_report, "RESULTS", results)
    monkeypatch.setattr(fault_report, "PAGE", page)
    monkeypatch.setattr(fault_report, "rows", {})
    fault_report.record("disk full", "a full disk", 1234, "no data lost")
    fault_report.write()
    stored = json.loads(results.read_text(encoding="utf-8"))
    assert stored["kill"] == old
    assert "| disk full | a full disk | 1,234 | no data lost |" in page.read_text(encoding="utf-8")


def test_counts_are_sorted_and_zeros_are_left_out() -> None:
    counts = Counter({"publish": 2, "gate": 0, "evaluate": 1})
    assert fault_report.format_counts(counts) == "evaluate 1, publish 2"
