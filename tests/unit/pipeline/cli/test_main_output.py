"""Commands answer quickly, in tables for people and JSON for programs (fault 9)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline import steps
from pipeline.cli import releases
from pipeline.cli.main import app

HEAVY = ("polars", "pyarrow", "deltalake", "torch", "onnxruntime", "pandas")
RUN = "2026-03-03-d162dfc453"


def loaded_by(arguments: list[str], env: dict[str, str]) -> tuple[set[str], str]:
    """Run a command in a fresh process; return the modules it imported, and its error text."""
    code = (
        "import atexit, sys; from pipeline.cli.main import main\n"
        "atexit.register(lambda: print('MODULES', *sys.modules))\n"
        f"sys.argv = ['debcm', *{arguments!r}]; main()"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=os.environ | env, capture_output=True, text=True, check=False
    )
    return set(done.stdout.partition("MODULES")[2].split()), done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["status", "--help"], ["gate", "--help"]])
def test_help_imports_neither_the_settings_nor_heavy_libraries(arguments: list[str]) -> None:
    modules, _ = loaded_by(arguments, {})
    assert "typer" in modules
    assert not modules & {*HEAVY, "numpy", "pipeline.settings.load"}


@pytest.mark.parametrize("arguments", [["status"], ["gate", RUN], ["release", "list"], ["retrain"]])
def test_a_misspelt_setting_is_told_before_heavy_libraries_are_imported(
    arguments: list[str],
) -> None:
    modules, said = loaded_by(arguments, {"DEBCM_SEDE": "1"})
    assert "DEBCM_SEDE" in said
    assert "pipeline.settings.load" in modules
    assert not modules & set(HEAVY)


def test_a_decision_is_printed_for_people_or_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = {"rule": "enough_rows", "passed": False, "text": "6 of 10 rows"}
    decision = {"run_id": RUN, "decision": "refuse", "verdicts": [verdict]}
    monkeypatch.setattr(steps, "run_ids", list)
    monkeypatch.setattr(steps, "gate", lambda *_: decision)
    shown = CliRunner().invoke(app, ["gate", RUN]).output
    assert "    enough_rows  no      6 of 10 rows" in shown
    assert "{" not in shown
    assert json.loads(CliRunner().invoke(app, ["gate", RUN, "--json"]).output) == decision


def test_upkeep_prints_a_part_for_each_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    results = {
        "deletions": {"videos": 2},
        "retention": {"runs": ["a"]},
        "compaction": {"videos": {"compacted": 3}},
        "sizes": {"videos": {"rows": 10}, "music": {"rows": 4}},
    }
    monkeypatch.setattr(releases, "require_lake", lambda _: None)
    for title, step in (("deletions", "apply_deletions"), *((name, name) for name in results)):
        if hasattr(steps, step):
            monkeypatch.setattr(steps, step, lambda title=title, **_: results[title])
    shown = CliRunner().invoke(app, ["upkeep"]).output
    assert [line for line in shown.splitlines() if not line.startswith(" ")] == list(results)
    assert "  music   4" in shown
    lines = CliRunner().invoke(app, ["upkeep", "--json"]).output.splitlines()
    assert [json.loads(line) for line in lines] == [{key: results[key]} for key in results]
    dry = CliRunner().invoke(app, ["upkeep", "--dry-run"]).output
    assert dry == "  runs  a\n"


def test_an_extraction_as_json_has_no_other_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "plan", lambda _: [{"plan": "p", "shard": 0, "label": "shard 0"}])
    monkeypatch.setattr(steps, "extract", lambda *_: {"clips": 2})
    monkeypatch.setattr(steps, "check", lambda _: {"clips": 2, "rejected": 0})
    command = ["extract", "--day", "2026-03-01"]
    lines = CliRunner().invoke(app, [*command, "--json"]).output.splitlines()
    assert [json.loads(line) for line in lines] == [{"clips": 2}, {"clips": 2, "rejected": 0}]
    assert CliRunner().invoke(app, command).output.splitlines() == [
        "  shard 0 of media",
        "  extract: clips 2",
        "  check: clips 2, rejected 0",
    ]
