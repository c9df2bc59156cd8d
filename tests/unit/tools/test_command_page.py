"""The commands page shows what `--help` shows."""

from __future__ import annotations

from typing import Annotated

import pytest
import typer

from pipeline.cli.main import app
from tools import command_page


def page() -> str:
    return "\n".join(command_page.command_sections())


def test_every_command_has_a_section() -> None:
    commands = [command.name or command.callback.__name__ for command in app.registered_commands]
    names = [name.replace("_", "-") for name in commands]
    assert len(names) > 5
    text = page()
    for name in names:
        assert f"### `debcm {name}`\n" in text


def test_arguments_and_options_show_their_help_default_and_requirement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = typer.Typer(help="A program.", epilog="More in docs.")
    group = typer.Typer()

    @group.command(help="Show rows\nof a table.", name="show")
    def show(
        table: Annotated[str, typer.Argument(metavar="TABLE", help="name of the table")],
        rows: Annotated[int, typer.Option(metavar="N", help="number of rows")] = 5,
        verbose: Annotated[bool, typer.Option(help="print more")] = False,
    ) -> None: ...

    @small.callback()
    def main() -> None: ...

    small.add_typer(group, name="tables", rich_help_panel="Looking")
    monkeypatch.setattr(command_page, "app", small)
    lines = page().splitlines()
    assert lines[0] == "A program."
    section = lines[lines.index("## Looking") :]
    assert [line for line in section if line] == [
        "## Looking",
        "### `debcm tables show`",
        "Show rows of a table.",
        "| | meaning |",
        "|---|---|",
        "| `TABLE` | name of the table; required |",
        "| `--rows N` | number of rows; default: 5 |",
        "| `--verbose, --no-verbose` | print more |",
    ]
    assert "completion" not in page()
