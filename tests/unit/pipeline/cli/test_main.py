"""`debcm`: help for every word of it, one line for every error, and `debcm run`."""

from __future__ import annotations

import datetime as dt
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from pipeline import steps
from pipeline.cli import main as cli
from pipeline.cli.select_days import LandingFolderError, choose_days
from pipeline.errors import ManifestError

TODAY = dt.date(2026, 3, 10)


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        yield " ".join((*path, name)), command


COMMANDS = dict(commands(typer.main.get_command(cli.app)))


@pytest.fixture(autouse=True)
def logging_restored() -> Iterator[None]:
    """What `--debug` sets concerns one command."""
    loggers = [logging.getLogger(name) for name in ("", "pipeline", "features", "models")]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.fixture
def debcm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The command as a shell runs it: (exit code, stdout, stderr)."""

    def call(*arguments: str) -> tuple[object, str, str]:
        logging.getLogger().handlers.clear()
        monkeypatch.setattr(sys, "argv", ["debcm", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return call


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_every_option_says_what_it_is(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    for parameter in command.params:
        if parameter.name not in {"help", "context"}:
            assert parameter.help, parameter.name
            assert "%" not in (parameter.metavar or ""), parameter.name


def test_help_names_the_exit_codes_and_where_settings_come_from() -> None:
    shown = CliRunner().invoke(cli.app, ["--help"]).output
    for said in ("0 done", "130", "$DEBCM_CONFIG", "All at once"):
        assert said in " ".join(shown.split())


def test_an_error_of_ours_is_one_line_and_exit_code_1(debcm) -> None:
    code, out, err = debcm("ingest", "--day", "2026-03-01")
    assert code == 1
    assert out == ""
    assert err.startswith("DayNotReadyError: ")
    assert err.count("\n") == 1


def test_debug_shows_the_traceback(debcm) -> None:
    code, _, err = debcm("--debug", "ingest", "--day", "2026-03-01")
    assert code == 1
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("DayNotReadyError: ")


def test_an_error_that_nobody_foresaw_is_short_too(debcm, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise KeyError("embedding")

    monkeypatch.setattr(steps, "teacher", fail)
    code, _, err = debcm("teacher", "2026-03-01-0123456789")
    assert code == 3
    assert err.startswith("KeyError: 'embedding'\n")
    assert "debcm --debug" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("day", ["2026-02-30", "20260301", "yesterday", "2026-3-1x"])
def test_what_is_no_day_is_wrong_usage(debcm, day: str) -> None:
    code, _, err = debcm("ingest", "--day", day)
    assert code == 2
    assert "a day written YYYY-MM-DD" in " ".join(err.replace("│", "").split())


@pytest.mark.parametrize("command", [("verify-erased", "u1"), ("upkeep",), ("upkeep", "--dry-run")])
def test_nothing_to_do_in_a_lake_that_is_not_there_is_not_said(debcm, command: list[str]) -> None:
    code, out, err = debcm(*command)
    assert code == 1
    assert "LakeUnavailableError" in err
    assert out == ""


@pytest.mark.parametrize("name", ["teacher", "student", "evaluate", "gate", "publish", "report"])
def test_without_a_lake_each_step_says_so_once(debcm, name: str) -> None:
    code, _, err = debcm(name, "2026-03-01-0123456789")
    assert code == 1
    assert err.count("LakeUnavailableError") == 1
    assert err.count("Check the storage") == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("2026-03-01-c90904c8f", "did you mean 2026-03-01-c90904c8f5?"),
        ("x", "the newest is 2026-03-03-bd3ee692b5"),
        ("../runs/2026-03-01-c90904c8f5", "there is no run"),
    ],
)
def test_a_run_that_does_not_exist_is_answered_with_one_that_does(
    debcm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str, said: str
) -> None:
    for run_id in ("2026-03-01-c90904c8f5", "2026-03-03-bd3ee692b5"):
        (tmp_path / "lake" / "runs" / run_id).mkdir(parents=True)
    code, _, err = debcm("student", given)
    assert code == 2
    assert said in " ".join(err.replace("│", "").split())


def deliver(root: Path, name: str, *, complete: bool = True) -> None:
    (root / name).mkdir(parents=True)
    if complete:
        (root / name / "_SUCCESS").touch()


def test_complete_days_are_taken_in_order_and_the_others_named(tmp_path: Path) -> None:
    for name in ("dt=2026-03-02", "dt=2026-03-01", "dt=2026-03-11", "dt=20260303", "dt=2026-02-30"):
        deliver(tmp_path, name)
    deliver(tmp_path, "dt=2026-03-04", complete=False)
    deliver(tmp_path, "export")
    (tmp_path / "dt=2026-03-05").touch()
    (tmp_path / ".DS_Store").touch()
    days, skipped = choose_days(tmp_path, today=TODAY)
    assert days == [dt.date(2026, 3, 1), dt.date(2026, 3, 2)]
    assert dict(skipped) == {
        "dt=2026-02-30": "not a folder dt=YYYY-MM-DD",
        "dt=2026-03-04": "no _SUCCESS in it: not complete yet",
        "dt=2026-03-05": "not a folder dt=YYYY-MM-DD",
        "dt=2026-03-11": "in the future; `--day` takes it all the same",
        "dt=20260303": "not a folder dt=YYYY-MM-DD",
        "export": "not a folder dt=YYYY-MM-DD",
    }


def test_wanted_days_are_taken_as_they_are(tmp_path: Path) -> None:
    later, earlier = dt.date(2026, 3, 11), dt.date(2026, 3, 4)
    assert choose_days(tmp_path, [later, earlier, later], TODAY) == ([earlier, later], [])


def test_a_folder_without_a_day_to_take_is_an_error_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(LandingFolderError, match="no such folder"):
        choose_days(tmp_path / "nowhere")
    with pytest.raises(LandingFolderError, match="it is empty"):
        choose_days(tmp_path)
    deliver(tmp_path, "dt=2026-03-04", complete=False)
    with pytest.raises(LandingFolderError, match="dt=2026-03-04: no _SUCCESS"):
        choose_days(tmp_path)


@pytest.fixture
def nights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Steps that only say that they were called; day 2026-03-02 cannot be taken."""
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
        deliver(tmp_path / "landing", f"dt={day}")
    return called


def test_run_names_what_it_skips_and_a_refused_day_costs_itself(
    debcm, nights: list[str], tmp_path: Path
) -> None:
    deliver(tmp_path / "landing", "dt=2026-03-04", complete=False)
    code, out, err = debcm("run", "--landing", "landing")
    assert nights == [
        "ingest 2026-03-01",
        "plan 2026-03-01",
        "ingest 2026-03-03",
        "plan 2026-03-03",
        "retrain 2026-03-03",
    ]
    assert "skipped dt=2026-03-04: no _SUCCESS" in out
    assert "summary of r" in out
    assert "ManifestError: videos.csv: the file is empty" in err
    assert "not taken: 2026-03-02" in err
    assert code == 1


def test_run_takes_the_days_it_is_told(debcm, nights: list[str]) -> None:
    code, _, _ = debcm("run", "--landing", "landing", "--day", "2026-03-03")
    assert nights == ["ingest 2026-03-03", "plan 2026-03-03", "retrain 2026-03-03"]
    assert code == 0
