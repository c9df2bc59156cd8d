"""Generates docs/commands.md from the help texts of the command line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from pipeline.cli.main import app


def command_sections() -> Iterator[str]:
    """Yield the blocks of the page below its title."""
    group: Any = typer.main.get_command(app)
    yield f"{group.help}\n"
    yield f"{group.epilog}\n"
    yield from _section("Before any command", "", group)
    for panel in dict.fromkeys(command.rich_help_panel for command in group.commands.values()):
        yield f"## {panel}\n"
        for name, command in group.commands.items():
            if command.rich_help_panel == panel:
                yield from _command(f"debcm {name}", command)


def _command(name: str, command: Any) -> Iterator[str]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield from _section(f"`{name}`", f"{' '.join(command.help.split())}\n", command)
        return
    for subcommand, below in inner.items():
        yield from _command(f"{name} {subcommand}", below)


def _section(title: str, text: str, command: Any) -> Iterator[str]:
    yield f"### {title}\n"
    if text:
        yield text
    rows = [row for parameter in command.params if (row := _row(parameter))]
    if rows:
        yield "| | meaning |\n|---|---|\n" + "\n".join(rows) + "\n"


def _row(parameter: Any) -> str:
    # Leave out shell completion, and the arguments that `debcm airflow` passes on to Airflow.
    if not parameter.help or "completion" in parameter.name or parameter.name == "help":
        return ""
    if parameter.param_type_name == "argument":
        usage = parameter.metavar
    else:
        usage = ", ".join([*parameter.opts, *parameter.secondary_opts])
        if parameter.metavar:
            usage += f" {parameter.metavar}"
    default = parameter.default
    notes = ["required"] if parameter.required else []
    if isinstance(default, str | int) and default not in ("", True, False):
        notes.append(f"default: {default}")
    return f"| `{usage}` | {'; '.join([parameter.help, *notes])} |"
