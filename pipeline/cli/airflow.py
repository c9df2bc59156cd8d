"""Defines the commands `debcm airflow` and `debcm ui`."""

from __future__ import annotations

import os
import signal
from typing import Annotated

import typer

# A warning of every Airflow command about a package that we do not need: three lines.
_IGNORED_WARNING = "ignore:Could not import graphviz"


def airflow(context: typer.Context) -> None:
    """Run any `airflow` command in the environment of this checkout."""
    from pipeline.orchestration.local_airflow import environment

    env = environment()
    own = env.get("PYTHONWARNINGS")
    env["PYTHONWARNINGS"] = f"{own},{_IGNORED_WARNING}" if own else _IGNORED_WARNING
    os.execvpe("airflow", ["airflow", *context.args], env)  # noqa: S606 (no shell)


def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="port on 127.0.0.1")] = 8080,
) -> None:
    """Run Airflow (scheduler, triggerer, API and UI) for this checkout until Ctrl-C."""
    from pipeline.orchestration.local_airflow import LocalAirflow, environment

    # A service manager sends SIGTERM, and a background shell makes children ignore SIGINT. Handle
    # both here, because the components run in their own sessions and do not receive them.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    typer.echo("starting Airflow; this takes about 30 s")
    with LocalAirflow(environment(port=port)) as local:
        typer.echo(f"Airflow UI: {local.url}   user: admin   password: {local.password()}")
        typer.echo("press Ctrl-C to stop")
        try:
            local.watch()
        except KeyboardInterrupt:
            typer.echo("stopping")
