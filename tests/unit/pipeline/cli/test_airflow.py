"""`debcm airflow` replaces the process by `airflow`, in the environment of the checkout."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.orchestration import local_airflow


@pytest.mark.parametrize("own", [None, "error::DeprecationWarning"])
def test_a_command_of_airflow_does_not_warn_about_graphviz(
    monkeypatch: pytest.MonkeyPatch, own: str | None
) -> None:
    """Fault 9: three lines before the output of every command."""
    started: list[tuple[str, list[str], dict[str, str]]] = []
    env = {"PATH": os.environ["PATH"]} | ({"PYTHONWARNINGS": own} if own else {})
    monkeypatch.setattr(local_airflow, "environment", lambda: env)
    monkeypatch.setattr(os, "execvpe", lambda *call: started.append(call))
    done = CliRunner().invoke(app, ["airflow", "dags", "list", "--output", "json"])
    assert done.exit_code == 0, done.output
    ((program, arguments, env),) = started
    assert (program, arguments) == ("airflow", ["airflow", "dags", "list", "--output", "json"])
    code = (
        "import warnings; warnings.warn('Could not import graphviz. Rendering'); "
        "warnings.warn('other')"
    )
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stderr
    assert "graphviz" not in said.replace(code, "")
    assert "UserWarning: other" in said
    assert (own or "") in env["PYTHONWARNINGS"]
