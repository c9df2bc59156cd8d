"""Results of steps as lines for people and as JSON for programs (fault 9)."""

from __future__ import annotations

import json

from pipeline.cli.results import as_json, as_line, as_lines

DECISION = {
    "run_id": "2026-03-03-d162dfc453",
    "decision": "refuse",
    "verdicts": (
        {"rule": "enough_rows", "passed": False, "text": "6 of 10 rows"},
        {"rule": "coverage", "passed": True, "text": "0.9"},
    ),
    "force": None,
}


def test_a_decision_is_a_table_of_its_rules() -> None:
    assert as_lines(DECISION) == [
        "  run id    2026-03-03-d162dfc453",
        "  decision  refuse",
        "  force     -",
        "  verdicts",
        "    rule         passed  text",
        "    enough_rows  no      6 of 10 rows",
        "    coverage     yes     0.9",
    ]


def test_results_of_tables_are_one_table() -> None:
    sizes = {"videos": {"rows": 1234, "bytes": 5}, "music": {"rows": 7, "files": 2}}
    assert as_lines(sizes) == [
        "          rows   bytes  files",
        "  videos  1,234  5      -",
        "  music   7      -      2",
    ]


def test_lists_dictionaries_and_empty_values_are_words() -> None:
    result = {"runs": ("a", "b"), "left": (), "share": 0.123456, "groups": {"pop": 2}, "day": ""}
    assert as_lines(result) == [
        "  runs    a, b",
        "  left    none",
        "  share   0.1235",
        "  groups  pop 2",
        "  day     -",
    ]
    assert as_lines({}) == []


def test_a_line_has_the_plain_fields() -> None:
    assert as_line("gate", DECISION) == "  gate: run id 2026-03-03-d162dfc453, decision refuse"
    assert as_line("report", {}) == "  report: done"


def test_json_is_one_line_that_programs_can_read() -> None:
    text = as_json(DECISION | {"title": "größe"})
    assert "\n" not in text
    assert json.loads(text)["verdicts"][0]["passed"] is False
    assert "größe" in text
