"""The command line: help, version, exit codes, error messages, and `debcm run`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from pipeline import steps
from pipeline.cli import main as cli
from pipeline.errors import DayNotReadyError, ManifestError


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        yield " ".join((*path, name)), command


COMMANDS = dict(commands(typer.main.get_command(cli.app)))


@pytest.fixture(autouse=True)
def logging_restored() -> Iterator[None]:
    """`--debug` changes log levels; undo it after the test."""
    loggers = [logging.getLogger(name) for name in ("", "pipeline", "features", "models")]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.fixture
def debcm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run a command as a shell does; return exit code, stdout and stderr."""

    def call(*arguments: str) -> tuple[object, str, str]:
        logging.getLogger().handlers.clear()
        monkeypatch.setattr(sys, "argv", ["debcm", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return call


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_a_help_text(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    for parameter in command.params:
        if parameter.name not in {"help", "context"}:
            assert parameter.help, parameter.name
            assert "%" not in (parameter.metavar or ""), parameter.name


def test_help_names_the_exit_codes_and_where_settings_come_from() -> None:
    shown = CliRunner().invoke(cli.app, ["--help"]).output
    for text in ("0 success", "130", "$DEBCM_CONFIG", "Whole pipeline"):
        assert text in " ".join(shown.split())


def test_version_is_that_of_the_installed_package(debcm) -> None:
    expected = f"debcm-pipeline {metadata.version('debcm-pipeline')}\n"
    assert debcm("--version") == (0, expected, "")
    # The version is printed before the command is looked up.
    assert debcm("--version", "no-such-command") == (0, expected, "")


def test_a_pipeline_error_is_a_message_and_a_remedy_with_exit_code_1(debcm) -> None:
    code, out, err = debcm("ingest", "--day", "2026-03-01")
    assert code == 1
    assert out == ""
    message, remedy = err.splitlines()
    assert message.startswith("DayNotReadyError: ")
    assert remedy == DayNotReadyError.remedy


def test_debug_shows_the_traceback(debcm) -> None:
    code, _, err = debcm("--debug", "ingest", "--day", "2026-03-01")
    assert code == 1
    assert "Traceback" in err
    assert err.splitlines()[-2].startswith("DayNotReadyError: ")


def test_an_unexpected_error_is_short_and_asks_for_a_report(
    debcm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> None:
        raise KeyError("embedding")

    monkeypatch.setattr(steps, "teacher", fail)
    code, _, err = debcm("teacher", "2026-03-01-0123456789")
    assert code == 3
    assert err.startswith("KeyError: 'embedding'\n")
    assert "debcm --debug" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("day", ["2026-02-30", "20260301", "yesterday", "2026-3-1x"])
def test_an_invalid_day_is_wrong_usage(debcm, day: str) -> None:
    code, _, err = debcm("ingest", "--day", day)
    assert code == 2
    assert "expected a day as YYYY-MM-DD" in " ".join(err.replace("│", "").split())


@pytest.mark.parametrize("command", [("verify-erased", "u1"), ("upkeep",), ("upkeep", "--dry-run")])
def test_a_missing_lake_is_an_error_and_not_an_empty_result(debcm, command: list[str]) -> None:
    code, out, err = debcm(*command)
    assert code == 1
    assert "LakeUnavailableError" in err
    assert out == ""


@pytest.mark.parametrize("name", ["teacher", "student", "evaluate", "gate", "publish", "report"])
def test_each_step_reports_a_missing_lake_once(debcm, name: str) -> None:
    code, _, err = debcm(name, "2026-03-01-0123456789")
    assert code == 1
    assert err.count("LakeUnavailableError") == 1
    assert err.count("Check the storage") == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2026-03-01-c90904c8f", "did you mean 2026-03-01-c90904c8f5?"),
        ("x", "the newest run is 2026-03-03-bd3ee692b5"),
        ("../runs/2026-03-01-c90904c8f5", "there is no run"),
    ],
)
def test_an_unknown_run_id_is_answered_with_a_known_one(
    debcm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str, expected: str
) -> None:
    for run_id in ("2026-03-01-c90904c8f5", "2026-03-03-bd3ee692b5"):
        (tmp_path / "lake" / "runs" / run_id).mkdir(parents=True)
    code, _, err = debcm("student", given)
    assert code == 2
    assert expected in " ".join(err.replace("│", "").split())


@pytest.fixture
def called_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the steps by ones that record their calls; day 2026-03-02 fails."""
    called: list[str] = []

    def ingest(day: str) -> dict[str, Any]:
        if day == "2026-03-02":
            raise ManifestError("the file is empty", where="videos.csv")
        called.append(f"ingest {day}")
        return {}

    monkeypatch.setattr(steps, "ingest", ingest)
    monkeypatch.setattr(steps, "plan", lambda days: called.append(f"plan {days[0]}") or [])
    monkeypatch.setattr(steps, "check", lambda day: {})
    monkeypatch.setattr(steps, "newest_day", lambda: "2026-03-03")
    monkeypatch.setattr(steps, "summary", lambda run_id: f"summary of {run_id}")
    monkeypatch.setattr(cli, "_retrain", lambda as_of: called.append(f"retrain {as_of}") or "r")
    for day in ("2026-03-01", "2026-03-02", "2026-03-03"):
        folder = tmp_path / "landing" / f"dt={day}"
        folder.mkdir(parents=True)
        (folder / "_SUCCESS").touch()
    return called


def test_run_lists_skipped_days_and_continues_after_a_failed_day(
    debcm, called_steps: list[str], tmp_path: Path
) -> None:
    (tmp_path / "landing" / "dt=2026-03-04").mkdir()
    code, out, err = debcm("run", "--landing", "landing")
    assert called_steps == [
        "ingest 2026-03-01",
        "plan 2026-03-01",
        "ingest 2026-03-03",
        "plan 2026-03-03",
        "retrain 2026-03-03",
    ]
    assert "skipped dt=2026-03-04: incomplete" in out
    assert "summary of r" in out
    assert f"ManifestError: the file is empty (videos.csv).\n{ManifestError.remedy}\n" in err
    assert "days that failed: 2026-03-02" in err
    assert code == 1


def test_run_processes_only_the_days_of_its_options(debcm, called_steps: list[str]) -> None:
    code, _, _ = debcm("run", "--landing", "landing", "--day", "2026-03-03")
    assert called_steps == ["ingest 2026-03-03", "plan 2026-03-03", "retrain 2026-03-03"]
    assert code == 0


def test_catch_up_processes_missed_days_oldest_first_and_continues_after_a_failed_one(
    debcm, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingested: list[str] = []

    def ingest(day: str) -> dict[str, Any]:
        ingested.append(day)
        if day == "2025-01-01":
            raise ManifestError("The file is empty", where="videos.csv")
        return {}

    monkeypatch.setattr(steps, "missed_days", lambda: ["2025-01-01", "2025-01-02"])
    monkeypatch.setattr(steps, "ingest", ingest)
    monkeypatch.setattr(steps, "plan", lambda _: [])
    monkeypatch.setattr(steps, "check", lambda _: {})
    assert debcm("catch-up", "--dry-run") == (0, "2025-01-01\n2025-01-02\n", "")
    assert ingested == []
    code, _, stderr = debcm("catch-up")
    assert (code, ingested) == (1, ["2025-01-01", "2025-01-02"])
    assert "days that failed: 2025-01-01" in stderr
    monkeypatch.setattr(steps, "missed_days", list)
    assert debcm("catch-up")[1].startswith("no day was missed")
