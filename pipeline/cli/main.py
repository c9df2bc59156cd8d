"""Defines the command line `debcm`: the steps of the pipeline, status, releases and upkeep."""

from __future__ import annotations

import datetime as dt
import difflib
import logging
import os
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline import steps
from pipeline.cli import airflow, releases
from pipeline.cli.results import as_json, as_line, as_lines
from pipeline.errors import (
    DayNotReadyError,
    LandingAccessError,
    ManifestError,
    PipelineError,
    TooManyRejectsError,
)

log = logging.getLogger(__name__)

# Errors of a single landing day: `debcm run` continues with the next day.
DAY_ERRORS = (DayNotReadyError, LandingAccessError, ManifestError, TooManyRejectsError)

app = typer.Typer(
    name="debcm",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Recommends background music for micro-videos: extracts features from a platform's "
    "uploads, trains the model and publishes releases. Settings are read from the file named by "
    "$DEBCM_CONFIG, or from debcm.toml in the working folder (docs/configuration.md).",
    epilog="Exit codes: 0 success; 1 an error that the message explains (docs/reasons.md); 2 wrong "
    "usage; 3 an unexpected error; 4 (`verify-erased`) no erasure on record; 130 interrupted.",
)
# Titles of the groups of commands in `debcm --help`.
PIPELINE, INSPECT = "Whole pipeline", "Inspect"
DAY_STEPS, RUN_STEPS = "Steps for a landing day", "Steps of a run"
RELEASES, UPKEEP, AIRFLOW = "Releases", "Upkeep", "Airflow"


def _parse_day(text: str) -> dt.date:
    try:
        return dt.datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 (a day has no zone)
    except ValueError as error:
        raise typer.BadParameter(f"expected a day as YYYY-MM-DD, found {text!r}") from error


def _day_option(*names: str, text: str = "landing day") -> Any:
    return typer.Option(*names, parser=_parse_day, metavar="YYYY-MM-DD", help=text)


Day = Annotated[dt.date, _day_option("--day")]
AsOf = Annotated[
    dt.date | None,
    _day_option("--as-of", text="last landing day to include; default: the newest complete day"),
]


def _check_run_id(text: str) -> str:
    known = steps.run_ids()
    if known and text not in known:
        near = difflib.get_close_matches(text, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the newest run is {known[-1]}"
        raise typer.BadParameter(f"there is no run {text!r}; {hint}")
    return text


RunId = Annotated[
    str,
    typer.Argument(
        metavar="RUN_ID", callback=_check_run_id, help="run_id printed by `debcm dataset`"
    ),
]


Json = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]

# Commands that work without valid settings.
_WITHOUT_SETTINGS = {"airflow", "ui"}


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"debcm-pipeline {metadata.version('debcm-pipeline')}")
        raise typer.Exit


@app.callback()
def _global_options(
    context: typer.Context,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="log the progress of each step")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="log details, and the traceback of an error")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="print the version and exit"
        ),
    ] = False,
) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose or debug else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    for package in ("pipeline", "features", "models"):
        # Only our own packages log at DEBUG: libraries would flood the terminal.
        logging.getLogger(package).setLevel(logging.DEBUG if debug else logging.NOTSET)
    if context.invoked_subcommand not in _WITHOUT_SETTINGS and "--help" not in sys.argv:
        # Before the imports of the command, which take seconds: an invalid setting is told at once.
        from pipeline.settings.load import load_settings

        load_settings()


@app.command(rich_help_panel=PIPELINE)
def run(
    landing: Annotated[
        Path | None, typer.Option("--landing", help="landing folder; default: [landing] root")
    ] = None,
    day: Annotated[
        list[dt.date] | None,
        _day_option("--day", text="only this day; repeatable; default: every complete day"),
    ] = None,
) -> None:
    """Run the whole pipeline without Airflow: process the landing days, retrain and publish.

    A day with an invalid delivery does not stop the other days; the exit code is then 1.
    """
    from pipeline.cli.select_days import choose_days
    from pipeline.settings.load import load_settings
    from pipeline.settings.paths import is_url

    if landing is not None:
        # Every step loads the settings itself, so an argument would not reach it.
        root = landing if is_url(landing) else landing.resolve()
        os.environ["DEBCM_LANDING__ROOT"] = str(root)
    days, skipped = choose_days(load_settings().landing.root, day or ())
    for name, why in skipped:
        typer.echo(f"skipped {name}: {why}")
    failed = [each for each in days if not _process_day(each.isoformat())]
    typer.echo(steps.summary(_retrain(steps.newest_day())))
    if failed:
        typer.echo(f"days that failed: {', '.join(map(str, failed))} (errors above)", err=True)
        raise typer.Exit(1)


@app.command(rich_help_panel=PIPELINE)
def retrain(as_of: AsOf = None) -> None:
    """Train, evaluate and publish a model: all steps of a run, in order (DAG `debcm_retrain`)."""
    run_id = _retrain(_iso_or_newest(as_of))
    typer.echo(steps.summary(run_id))


@app.command(rich_help_panel=INSPECT)
def status() -> None:
    """Show the current release, the newest days, tables, quarantine and DAG runs."""
    typer.echo(steps.status())


@app.command(rich_help_panel=INSPECT)
def quarantine(day: Day) -> None:
    """List every rejected row of a landing day with its reason, id and details."""
    typer.echo(steps.quarantine(day.isoformat()))


app.command(rich_help_panel=INSPECT)(releases.recommend)


@app.command(rich_help_panel=DAY_STEPS)
def ingest(day: Day, json: Json = False) -> None:
    """Read a landing day: add valid rows to the catalogue, quarantine invalid rows."""
    _show(steps.ingest(day.isoformat()), json)


@app.command(rich_help_panel=DAY_STEPS)
def extract(day: Day, json: Json = False) -> None:
    """Extract missing features of an ingested day, then check that no row was lost."""
    _extract(day.isoformat(), json)


@app.command("catch-up", rich_help_panel=DAY_STEPS)
def catch_up(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only list the days")] = False,
) -> None:
    """Ingest and extract the complete days that are older than the lookback and in no table.

    The exit code is 1 if a day has failed; the other days are processed.
    """
    missed = steps.missed_days()
    if not missed:
        typer.echo("no day was missed: every old complete day was ingested or refused")
    if dry_run:
        for each in missed:
            typer.echo(each)
        return
    failed = [each for each in missed if not _process_day(each)]
    if failed:
        typer.echo(f"days that failed: {', '.join(failed)} (errors above)", err=True)
        raise typer.Exit(1)


@app.command(rich_help_panel=DAY_STEPS)
def backfill(
    first_day: Annotated[dt.date, _day_option("--first-day", text="first landing day")],
    last_day: Annotated[dt.date, _day_option("--last-day", text="last landing day")],
    extractor: Annotated[str, typer.Option(help="current, or a name in [candidates]")] = "current",
    kind: Annotated[str, typer.Option(help="both, visual or audio")] = "both",
    dry_run: Annotated[bool, typer.Option(help="only print the plan; the default")] = True,
    json: Json = False,
) -> None:
    """Extract features of ingested days with any extractor (DAG `feature_backfill`)."""
    days = first_day.isoformat(), last_day.isoformat()
    shards = steps.plan_backfill(*days, extractor, kind, dry_run=False)
    for shard in shards:
        if json:
            _show(shard, json)
        else:
            typer.echo(f"  {shard['label']}, {shard['cpu_seconds']:.0f} CPU s expected")
        if not dry_run:
            _show(steps.extract(shard["plan"], shard["shard"], extractor, shard["kinds"]), json)
    if json:
        return
    clips = sum(shard["clips"] for shard in shards)
    if dry_run:
        typer.echo(f"{clips} clips to extract. Run again with --no-dry-run to extract them.")
    else:
        typer.echo(f"{clips} clips processed")


@app.command(rich_help_panel=RUN_STEPS)
def confounders(as_of: AsOf = None, json: Json = False) -> None:
    """Compute the uploaders' genre preferences; the first step of a run."""
    _show(steps.confounders(_iso_or_newest(as_of)), json)


@app.command(rich_help_panel=RUN_STEPS)
def dataset(as_of: AsOf = None, json: Json = False) -> None:
    """Write the training data of a run and print its run_id; the next steps need it."""
    _show(steps.dataset(_iso_or_newest(as_of)), json)


@app.command(rich_help_panel=RUN_STEPS)
def teacher(run_id: RunId, json: Json = False) -> None:
    """Train the teacher of a run on professional music videos."""
    _show(steps.teacher(run_id), json)


@app.command(rich_help_panel=RUN_STEPS)
def student(run_id: RunId, json: Json = False) -> None:
    """Train the student of a run on uploaders' picks."""
    _show(steps.student(run_id), json)


@app.command(rich_help_panel=RUN_STEPS)
def evaluate(run_id: RunId, json: Json = False) -> None:
    """Evaluate a run's model, the champion and the baselines on held-out picks."""
    _show(steps.evaluate(run_id), json)


@app.command(rich_help_panel=RUN_STEPS)
def gate(
    run_id: RunId,
    force: Annotated[
        bool,
        typer.Option("--force", help="publish in spite of broken rules; needs --by and --reason"),
    ] = False,
    by: Annotated[str, typer.Option("--by", help="your name; recorded")] = "",
    reason: Annotated[str, typer.Option("--reason", help="why the run is forced; recorded")] = "",
    json: Json = False,
) -> None:
    """Decide by the gate's rules whether a run may be published."""
    _show(steps.gate(run_id, (by, reason) if force else None), json)


@app.command(rich_help_panel=RUN_STEPS)
def publish(run_id: RunId, json: Json = False) -> None:
    """Publish a run that passed the gate, and make its release current."""
    _show(steps.publish(run_id), json)


@app.command(rich_help_panel=RUN_STEPS)
def report(run_id: RunId, json: Json = False) -> None:
    """Write the HTML report of a run, after the gate has decided on it."""
    _show(steps.report(run_id), json)


@app.command(rich_help_panel=UPKEEP)
def upkeep(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only print what retention would remove")
    ] = False,
    json: Json = False,
) -> None:
    """Erase deleted data, apply retention, compact tables, print sizes (DAG `lake_upkeep`)."""
    from pipeline.settings.load import load_settings

    releases.require_lake(load_settings())
    if dry_run:
        _show(steps.retention(dry_run=True), json)
        return
    failed: list[PipelineError] = []
    for title, step in (
        ("deletions", steps.apply_deletions),
        ("retention", steps.retention),
        ("compaction", steps.compaction),
    ):
        try:
            _show_titled(title, step(), json)
        except PipelineError as error:
            # Retention and compaction still run: erased rows must leave old table versions too.
            log.error("%s: %s", title, error)
            failed.append(error)
    if failed:
        raise failed[0]
    _show_titled("sizes", steps.sizes(), json)


app.add_typer(releases.release_app, rich_help_panel=RELEASES)
app.command(rich_help_panel=UPKEEP)(releases.verify_erased)


app.command(
    rich_help_panel=AIRFLOW,
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    },
)(airflow.airflow)
app.command(rich_help_panel=AIRFLOW)(airflow.ui)


def main() -> None:
    """Run the command line; print an error without its traceback (`--debug` logs it).

    Raises:
        SystemExit: always, with the exit code of the command.
    """
    try:
        app()
    except Exception as error:
        log.debug("traceback", exc_info=True)
        if _has_remedy(error):
            typer.echo(f"{type(error).__name__}: {error}", err=True)
            sys.exit(1)
        first, *_ = str(error).splitlines() or [""]
        typer.echo(f"{type(error).__name__}: {first}", err=True)
        typer.echo("This is a bug. Please report it with the output of `debcm --debug`.", err=True)
        sys.exit(3)


def _has_remedy(error: Exception) -> bool:
    # Imported here, because the package imports numpy: `debcm --help` must not wait for it.
    from features.errors import EncoderError, MediaError, WorkerError

    return isinstance(error, PipelineError | EncoderError | MediaError | WorkerError)


def _process_day(day: str) -> bool:
    """Ingest and extract a landing day; print an error of the day and return False."""
    typer.echo(f"day {day}")
    try:
        typer.echo(as_line("ingest", steps.ingest(day)))
        for line in _extraction(day):
            typer.echo(line)
    except DAY_ERRORS as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        return False
    return True


def _extract(day: str, json: bool) -> None:
    if not json:
        for line in _extraction(day):
            typer.echo(line)
        return
    for shard in steps.plan([day]):
        _show(steps.extract(shard["plan"], shard["shard"]), json)
    _show(steps.check(day), json)


def _extraction(day: str) -> Iterator[str]:
    """Extract and check a day; yield a line before and after each shard."""
    shards = steps.plan([day])
    for shard in shards:
        yield f"  {shard['label']} of media"
        yield as_line("extract", steps.extract(shard["plan"], shard["shard"]))
    yield as_line("check", steps.check(day))
    if not shards:
        yield "  nothing to extract: every clip has features"


def _retrain(as_of: str) -> str:
    typer.echo(as_line("confounders", steps.confounders(as_of)))
    result = steps.dataset(as_of)
    typer.echo(as_line("dataset", result))
    run_id = str(result["run_id"])
    for step in (steps.teacher, steps.student, steps.evaluate):
        typer.echo(as_line(step.__name__, step(run_id)))
    decision = steps.gate(run_id)
    typer.echo(as_line("gate", decision))
    if decision["decision"] != "refuse":
        typer.echo(as_line("publish", steps.publish(run_id)))
    typer.echo(as_line("report", steps.report(run_id)))
    return run_id


def _iso_or_newest(day: dt.date | None) -> str:
    return day.isoformat() if day else steps.newest_day()


def _show(result: dict[str, Any], json: bool) -> None:
    typer.echo(as_json(result) if json else "\n".join(as_lines(result)))


def _show_titled(title: str, result: dict[str, Any], json: bool) -> None:
    if json:
        typer.echo(as_json({title: result}))
    else:
        typer.echo(title)
        _show(result, json)
