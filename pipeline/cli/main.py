"""`debcm`: every step of the pipeline at the keyboard, and what a day's work needs besides."""

from __future__ import annotations

import datetime as dt
import difflib
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from features.errors import EncoderError, MediaError, WorkerError
from pipeline import steps
from pipeline.cli import releases
from pipeline.errors import (
    DayNotReadyError,
    LandingAccessError,
    ManifestError,
    PipelineError,
    TooManyRejectsError,
)

log = logging.getLogger(__name__)

# What is the matter with one delivered day, and with no other.
_REFUSED = (DayNotReadyError, LandingAccessError, ManifestError, TooManyRejectsError)

app = typer.Typer(
    name="debcm",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="From a micro-video platform's uploads to background-music recommendations. The settings "
    "are those of $DEBCM_CONFIG, or of debcm.toml in the working folder (docs/configuration.md).",
    epilog="Exit codes: 0 done; 1 an error that the message explains (docs/reasons.md); 2 wrong "
    "usage; 3 an error that nobody foresaw; 130 interrupted.",
)
ALL, NIGHT, MODEL = "All at once", "A day, step by step", "A run of the model, step by step"
LOOK, RELEASES, CARE = "Look", "Releases", "Care"
AIRFLOW = "Airflow"


def _day(text: str) -> dt.date:
    try:
        return dt.datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError as error:
        raise typer.BadParameter(f"a day written YYYY-MM-DD expected, found {text!r}") from error


def _day_option(*names: str, text: str = "landing day") -> Any:
    return typer.Option(*names, parser=_day, metavar="YYYY-MM-DD", help=text)


Day = Annotated[dt.date, _day_option("--day")]
AsOf = Annotated[
    dt.date | None, _day_option("--as-of", text="last day included; default: the newest complete")
]


def _run_id(text: str) -> str:
    known = steps.run_ids()
    if known and text not in known:
        near = difflib.get_close_matches(text, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the newest is {known[-1]}"
        raise typer.BadParameter(f"there is no run {text!r}; {hint}")
    return text


RunId = Annotated[
    str,
    typer.Argument(metavar="RUN_ID", callback=_run_id, help="what `debcm dataset` printed"),
]


@app.callback()
def _logging(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="log what each step does")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="log more, and the traceback of an error")
    ] = False,
) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose or debug else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    for package in ("pipeline", "features", "models"):
        # Of the libraries, INFO is enough.
        logging.getLogger(package).setLevel(logging.DEBUG if debug else logging.NOTSET)


@app.command(rich_help_panel=ALL)
def run(
    landing: Annotated[
        Path | None, typer.Option("--landing", help="landing folder; default: the settings'")
    ] = None,
    day: Annotated[
        list[dt.date] | None,
        _day_option("--day", text="only this day; repeatable; default: every complete one"),
    ] = None,
) -> None:
    """Everything, without Airflow: each landing day into features, then retrain and publish.

    A day whose delivery cannot be taken costs itself: the others go on, and the exit code is 1.
    """
    from pipeline.cli.select_days import choose_days
    from pipeline.settings.load import load_settings

    if landing is not None:
        # The steps read the settings in force, each for itself.
        os.environ["DEBCM_LANDING__ROOT"] = str(landing.resolve())
    days, skipped = choose_days(load_settings().landing.root, day or ())
    for name, why in skipped:
        typer.echo(f"skipped {name}: {why}")
    refused = [each for each in days if not _night(each.isoformat())]
    typer.echo(steps.summary(_retrain(steps.newest_day())))
    if refused:
        typer.echo(f"not taken: {', '.join(map(str, refused))} (messages above)", err=True)
        raise typer.Exit(1)


@app.command(rich_help_panel=ALL)
def retrain(as_of: AsOf = None) -> None:
    """From features to a release: confounders to report, in order (DAG `debcm_retrain`)."""
    run_id = _retrain(_iso(as_of))
    typer.echo(steps.summary(run_id))


@app.command(rich_help_panel=LOOK)
def status() -> None:
    """How things stand: days, tables, release, gate, quarantine, DAG runs."""
    typer.echo(steps.status())


@app.command(rich_help_panel=LOOK)
def quarantine(day: Day) -> None:
    """Every row of a landing day that was rejected: reason, id, and what exactly was wrong."""
    typer.echo(steps.quarantine(_iso(day)))


app.command(rich_help_panel=LOOK)(releases.recommend)


@app.command(rich_help_panel=NIGHT)
def ingest(day: Day) -> None:
    """Read a delivered day: each row into the catalogue, or into quarantine with its reason."""
    _show(steps.ingest(_iso(day)))


@app.command(rich_help_panel=NIGHT)
def extract(day: Day) -> None:
    """Decode what has no features yet of an ingested day, and account for every row."""
    _extract([_iso(day)])


@app.command(rich_help_panel=NIGHT)
def backfill(
    first_day: Annotated[dt.date, _day_option("--first-day", text="first landing day")],
    last_day: Annotated[dt.date, _day_option("--last-day", text="last landing day")],
    extractor: Annotated[str, typer.Option(help="current, or a name of [candidates]")] = "current",
    kind: Annotated[str, typer.Option(help="both, visual or audio")] = "both",
    dry_run: Annotated[bool, typer.Option(help="only say what would be done, the default")] = True,
) -> None:
    """Extract features of days already ingested, by any extractor (DAG `feature_backfill`)."""
    shards = steps.plan_backfill(_iso(first_day), _iso(last_day), extractor, kind, dry_run=False)
    for shard in shards:
        typer.echo(f"  {shard['label']}, {shard['cpu_seconds']:.0f} CPU s expected")
        if not dry_run:
            _show(steps.extract(shard["plan"], shard["shard"], extractor, shard["kinds"]))
    done = "would be extracted; --no-dry-run does it" if dry_run else "were to be extracted"
    typer.echo(f"{sum(shard['clips'] for shard in shards)} clips {done}")


@app.command(rich_help_panel=MODEL)
def confounders(as_of: AsOf = None) -> None:
    """Work out the uploaders' genre preferences: the first step of a run."""
    _show(steps.confounders(_iso(as_of)))


@app.command(rich_help_panel=MODEL)
def dataset(as_of: AsOf = None) -> None:
    """Gather everything a run is trained on, and print its run_id, which the next steps take."""
    _show(steps.dataset(_iso(as_of)))


@app.command(rich_help_panel=MODEL)
def teacher(run_id: RunId) -> None:
    """Train the teacher of a run on professional music videos."""
    _show(steps.teacher(run_id))


@app.command(rich_help_panel=MODEL)
def student(run_id: RunId) -> None:
    """Train the student of a run on uploaders' picks."""
    _show(steps.student(run_id))


@app.command(rich_help_panel=MODEL)
def evaluate(run_id: RunId) -> None:
    """Score a run's model, the champion and the baselines on the held-out picks."""
    _show(steps.evaluate(run_id))


@app.command(rich_help_panel=MODEL)
def gate(
    run_id: RunId,
    force: Annotated[
        bool, typer.Option("--force", help="overrule a refusal; needs --by and --reason")
    ] = False,
    by: Annotated[str, typer.Option("--by", help="who forces it; recorded")] = "",
    reason: Annotated[str, typer.Option("--reason", help="why it is forced; recorded")] = "",
) -> None:
    """Decide whether a run may be published, and say why."""
    _show(steps.gate(run_id, (by, reason) if force else None))


@app.command(rich_help_panel=MODEL)
def publish(run_id: RunId) -> None:
    """Write the release of a run that passed the gate, and make it current."""
    _show(steps.publish(run_id))


@app.command(rich_help_panel=MODEL)
def report(run_id: RunId) -> None:
    """Write the HTML report of a run that the gate has decided on."""
    _show(steps.report(run_id))


@app.command(rich_help_panel=CARE)
def upkeep(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only say what retention would remove")
    ] = False,
) -> None:
    """Deletions, retention, compaction; prints the sizes of tables (DAG `lake_upkeep`)."""
    from pipeline.settings.load import load_settings

    releases.require_lake(load_settings())
    if dry_run:
        _show(steps.retention(dry_run=True))
        return
    failed: list[PipelineError] = []
    for step in (steps.apply_deletions, steps.retention, steps.compaction):
        try:
            _show(step())
        except PipelineError as error:
            # What deletions did reach must leave the old versions of tables too.
            log.error("%s: %s", step.__name__, error)
            failed.append(error)
    if failed:
        raise failed[0]
    for table, size in steps.sizes().items():
        typer.echo(f"  {table}")
        _show(size)


app.add_typer(releases.release_app, rich_help_panel=RELEASES)
app.command(rich_help_panel=CARE)(releases.verify_erased)


@app.command(
    rich_help_panel=AIRFLOW,
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    },
)
def airflow(context: typer.Context) -> None:
    """Any `airflow` command, in the environment of this checkout."""
    from pipeline.orchestration.local_airflow import environment

    env = environment()
    os.execvpe("airflow", ["airflow", *context.args], env)  # noqa: S606 (no shell)


@app.command(rich_help_panel=AIRFLOW)
def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="loopback port")] = 8080,
) -> None:
    """Run Airflow (scheduler, triggerer, API and UI) for this checkout until Ctrl-C."""
    from pipeline.orchestration.local_airflow import LocalAirflow, environment

    # A service manager ends it by SIGTERM, and a background shell has it ignore SIGINT: both must
    # reach the components, which have sessions of their own.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    typer.echo("starting Airflow, half a minute ...")
    with LocalAirflow(environment(port=port)) as local:
        typer.echo(f"Airflow UI: {local.url}   user: admin   password: {local.password()}")
        typer.echo("Ctrl-C stops it")
        try:
            local.watch()
        except KeyboardInterrupt:
            typer.echo("stopping")


def main() -> None:
    """Entry point: an error is one line and an exit code; `--debug` logs its traceback."""
    try:
        app()
    except (PipelineError, EncoderError, MediaError, WorkerError) as error:
        log.debug("traceback", exc_info=True)
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(1)
    except Exception as error:
        log.debug("traceback", exc_info=True)
        first, *_ = str(error).splitlines() or [""]
        sys.stderr.write(
            f"{type(error).__name__}: {first}\n"
            "Nobody foresaw this. Please report it, with what `debcm --debug ...` prints.\n"
        )
        sys.exit(3)


def _night(day: str) -> bool:
    """A day into features; False where what was delivered cannot be taken, which is said."""
    typer.echo(f"day {day}")
    try:
        _show(steps.ingest(day))
        _extract([day])
    except _REFUSED as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        return False
    return True


def _extract(days: list[str]) -> None:
    shards = steps.plan(days)
    for shard in shards:
        typer.echo(f"  {shard['label']} of media")
        _show(steps.extract(shard["plan"], shard["shard"]))
    for day in days:
        _show(steps.check(day))
    if not shards:
        typer.echo("  nothing to extract: every clip has features")


def _retrain(as_of: str) -> str:
    _show(steps.confounders(as_of))
    made = steps.dataset(as_of)
    _show(made)
    run_id = str(made["run_id"])
    for step in (steps.teacher, steps.student, steps.evaluate):
        _show(step(run_id))
    decision = steps.gate(run_id)
    _show(decision)
    if decision["decision"] != "refuse":
        _show(steps.publish(run_id))
    _show(steps.report(run_id))
    return run_id


def _iso(day: dt.date | None) -> str:
    return day.isoformat() if day else steps.newest_day()


def _show(result: dict[str, Any]) -> None:
    typer.echo("  " + json.dumps(result, ensure_ascii=False, default=str))
