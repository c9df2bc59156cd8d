"""README.md and docs/: links resolve, and commands, files and settings that they name exist."""

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
from tests.unit.test_structure import MAY_IMPORT, ROOMS

CHECKOUT = Path(__file__).resolve().parents[2]
DOCS = CHECKOUT / "docs"
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
TUTORIAL = (DOCS / "first-night.md").read_text(encoding="utf-8")
DESIGN = (DOCS / "design.md").read_text(encoding="utf-8")
PAGES = [
    *sorted(CHECKOUT.glob("*.md")),
    *sorted(DOCS.glob("*.md")),
    CHECKOUT / "deploy" / "README.md",
    CHECKOUT / ".github" / "pull_request_template.md",
]
# The change log describes the past.
CURRENT_PAGES = [page for page in PAGES if page.name != "CHANGELOG.md"]


def page_name(page: Path) -> str:
    return page.relative_to(CHECKOUT).as_posix()


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
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


# --- the README's contract and figures -------------------------------------------------------


def columns_of(manifest: str) -> dict[str, list[str]]:
    """Return the table after a manifest's name: column -> cells."""
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
    columns = columns_of(manifest)
    fields = {field.name: field for field in LANDING[name].fields}
    assert list(columns) == list(fields)
    for column, (kind, empty, *_) in columns.items():
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


def test_the_tutorials_settings_are_settings(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", TUTORIAL, re.DOTALL)
    assert tomllib.loads(block)
    (tmp_path / "debcm.toml").write_text(block, encoding="utf-8")
    settings = load_settings()
    assert settings.landing.root == tmp_path / "landing"
    assert settings.genres.group("Indie Pop") == "pop"


def test_numbers_that_the_text_quotes_are_the_defaults() -> None:
    settings = load_settings()
    least, share = settings.gate.min_test_rows, settings.split.test_share
    assert f"`[gate] min_test_rows` ({least})" in TUTORIAL
    assert f"`[split] test_share` ({share}) that takes {least / share:.0f} uploads" in re.sub(
        r"\s+", " ", TUTORIAL
    )
    limits = settings.limits
    assert (limits.bytes, limits.seconds, limits.pixels) == (2 << 30, 20 * 60, 4096 * 2304)
    assert "2 GiB, 20 minutes, 4096 x 2304 pixels" in re.sub(r"\s+", " ", README)


def test_every_figure_of_the_costs_names_its_command() -> None:
    (table,) = re.findall(r"## What it costs\n\n.+\n\n((?:\|.*\n)+)", README)
    for line in table.splitlines()[2:]:
        assert "`" in line.split("|")[3] or "the same" in line.split("|")[3], line


def test_the_demos_output_has_twelve_lines_of_the_summary() -> None:
    (block,) = re.findall(r"```\n(Gate decision.*?)```", README, re.DOTALL)
    lines = block.splitlines()
    assert len(lines) == 12
    summary = (CHECKOUT / "pipeline" / "reporting" / "summary.py").read_text(encoding="utf-8")
    for heading in (line for line in lines if not line.startswith(" ")):
        assert re.split(r"\d", heading)[0].strip() in summary, heading


# --- all pages -------------------------------------------------------------------------------


@pytest.mark.parametrize("page", CURRENT_PAGES, ids=page_name)
def test_what_a_page_tells_to_run_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    benchmarks = {f"benchmark-{path.stem}" for path in (CHECKOUT / "benchmarks").glob("*.py")}
    # Only in code: "make" is also an English verb.
    code = " ".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))
    for target in re.findall(r"\bmake ([a-z][a-z-]+)", code):
        assert target in targets | benchmarks, target
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for command in re.findall(r"(?<!from )\bdebcm (?:-v )?([a-z][a-z-]+)", code):
        assert command in commands, command


@pytest.mark.parametrize("page", CURRENT_PAGES, ids=page_name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    roots = "|".join([*MAY_IMPORT, "tests", "docs", "deploy", ".github"])
    text = page.read_text(encoding="utf-8")
    named = re.findall(rf"`((?:{roots})/[\w./-]+\.(?:py|md|toml|yaml|json|html))\b", text)
    missing = {name for name in named if not (CHECKOUT / name).exists()}
    assert not missing


def test_the_index_lists_every_page_once() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^- \[[^]]+\]\(([^)]+)\)", index, re.MULTILINE)
    assert len(listed) == len(set(listed))
    pages = {path.name for path in DOCS.glob("*.md")} - {"README.md"}
    assert set(listed) == pages | {"../deploy/README.md"}
    assert re.findall(r"^## (.+)$", index, re.MULTILINE) == [
        "Tutorial",
        "How-to",
        "Reference",
        "Explanation",
    ]
    generated = {
        path.name for path in DOCS.glob("*.md") if "Generated by `make docs`" in _text(path)
    }
    assert set(re.findall(r"\]\(([^)]+)\)\*", index)) == generated


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("package", ROOMS)
def test_the_design_lists_the_rooms_in_their_order(package: str) -> None:
    (table,) = re.findall(rf"^`{package}/`:\n\n((?:\|.*\n)+)", DESIGN, re.MULTILINE)
    rooms = re.findall(r"^\| `(\w+)` \| \S", table, re.MULTILINE)
    assert tuple(rooms) == ROOMS[package]


def test_the_design_says_what_each_package_may_import() -> None:
    (section,) = re.findall(r"^## Packages\n(.*?)^## ", DESIGN, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| `(\w+)/` \| .* \| (.+) \|$", section, re.MULTILINE)
    stated = {name: set(re.findall(r"`(\w+)`", allowed)) for name, allowed in rows}
    assert stated == {name: allowed - {name} for name, allowed in MAY_IMPORT.items()}
