"""README.md and docs/: their links lead somewhere, and what they tell a newcomer to do exists."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pyarrow as pa
import pytest
import typer

from pipeline.cli.main import app
from pipeline.ingestion.manifest import read_manifest
from pipeline.lake.schemas import LANDING
from pipeline.settings.load import load_settings

CHECKOUT = Path(__file__).resolve().parents[2]
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
PAGES = [
    *CHECKOUT.glob("*.md"),
    *sorted((CHECKOUT / "docs").glob("*.md")),
    CHECKOUT / "deploy" / "README.md",
]


def anchors(page: Path) -> set[str]:
    """What a link to a heading of a page may be called, as GitHub does."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def columns_of(manifest: str) -> dict[str, list[str]]:
    """The rows of the table that stands behind a manifest's name: column -> cells."""
    (table,) = re.findall(rf"^`{manifest}`[,:].*?\n\n((?:\|.*\n)+)", README, re.MULTILINE)
    rows = [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in table.splitlines()]
    return {row[0].strip("`"): row[1:] for row in rows[2:]}


@pytest.mark.parametrize(
    ("manifest", "name"),
    [
        ("videos", "landing_videos"),
        ("music", "landing_music"),
        ("deletions", "deletion_requests"),
    ],
)
def test_the_landing_contract_names_every_column(manifest: str, name: str) -> None:
    told = columns_of(manifest)
    fields = {field.name: field for field in LANDING[name].fields}
    assert list(told) == list(fields)
    for column, (kind, empty, *_) in told.items():
        field = fields[column]
        assert bool(empty) == field.nullable, column
        assert ("time with a zone" in kind) == pa.types.is_timestamp(field.type), column
        for value in field.one_of:
            assert f"`{value}`" in kind, column


@pytest.mark.parametrize("manifest", ["videos", "music"])
def test_the_example_rows_can_be_delivered(manifest: str, tmp_path: Path) -> None:
    key = {"videos": "video_id", "music": "music_id"}[manifest]
    (block,) = re.findall(rf"```\n({key},.*?)```", README, re.DOTALL)
    path = tmp_path / f"{manifest}.csv"
    path.write_text(block, encoding="utf-8")
    read = read_manifest(path, LANDING[f"landing_{manifest}"])
    assert read.rows
    assert not read.bad


def test_the_example_settings_are_settings(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    assert tomllib.loads(block)
    (tmp_path / "debcm.toml").write_text(block, encoding="utf-8")
    settings = load_settings()
    assert settings.landing.root == tmp_path / "landing"
    assert settings.genres.group("Indie Pop") == "pop"


def test_numbers_that_the_text_quotes_are_the_defaults() -> None:
    settings = load_settings()
    assert f"`[gate] min_test_rows`\n({settings.gate.min_test_rows})" in README
    assert f"`[split] test_share` ({settings.split.test_share})" in README
    limits = settings.limits
    assert (limits.bytes, limits.seconds, limits.pixels) == (2 << 30, 20 * 60, 4096 * 2304)


# The change log tells of what was.
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name
)
def test_what_a_page_tells_to_run_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    benchmarks = {f"benchmark-{path.stem}" for path in (CHECKOUT / "benchmarks").glob("*.py")}
    # In code only: prose makes many things.
    code = " ".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))
    for target in re.findall(r"\bmake ([a-z][a-z-]+)", code):
        assert target in targets | benchmarks, target
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for command in re.findall(r"\bdebcm (?:-v )?([a-z][a-z-]+)", code):
        assert command in commands, command
