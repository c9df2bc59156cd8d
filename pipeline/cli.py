"""`debcm`: every step of the pipeline at the keyboard, and what a day's work needs besides."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from features.errors import EncoderError, WorkerError
from pipeline import steps
from pipeline.errors import PipelineError
from pipeline.releases import commands

app = typer.Typer(
    name="debcm",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="From a micro-video platform's uploads to background-music recommendations.",
)
app.add_typer(commands.release_app)
app.command()(commands.recommend)
app.command()(commands.verify_erased)

Day = Annotated[dt.datetime, typer.Option("--day", formats=["%Y-%m-%d"], help="landing day")]
AsOf = Annotated[
    dt.datetime | None,
    typer.Option("--as-of", formats=["%Y-%m-%d"], help="last day included; default: the newest"),
]
RunId = Annotated[str, typer.Argument(help="what `debcm dataset` printed as run_id")]


@app.callback()
def _logging(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="log what each step does")
    ] = False,
) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )


@app.command()
def ingest(day: Day) -> None:
    """Read a landing day into catalogue and quarantine."""
    _show(steps.ingest(_iso(day)))


@app.command()
def extract(day: Day) -> None:
    """Extract what lacks features of an ingested day, and account for every row."""
    _extract([_iso(day)])


@app.command()
def backfill(
    first_day: Annotated[dt.datetime, typer.Option(formats=["%Y-%m-%d"], help="landing day")],
    last_day: Annotated[dt.datetime, typer.Option(formats=["%Y-%m-%d"], help="landing day")],
    extractor: Annotated[str, typer.Option(help="current, or a name of [candidates]")] = "current",
    kind: Annotated[str, typer.Option(help="both, visual or audio")] = "both",
    dry_run: Annotated[bool, typer.Option(help="only say what would be done")] = True,
) -> None:
    """What `feature_backfill` does: features of days already ingested, by any extractor."""
    shards = steps.plan_backfill(_iso(first_day), _iso(last_day), extractor, kind, dry_run=False)
    for shard in shards:
        typer.echo(f"  {shard['label']}, {shard['cpu_seconds']:.0f} CPU s expected")
        if not dry_run:
            _show(steps.extract(shard["plan"], shard["shard"], extractor, shard["kinds"]))
    done = "would be extracted; --no-dry-run does it" if dry_run else "were to be extracted"
    typer.echo(f"{sum(shard['clips'] for shard in shards)} clips {done}")


@app.command()
def confounders(as_of: AsOf = None) -> None:
    """Write the uploaders' genre preferences."""
    _show(steps.confounders(_iso(as_of)))


@app.command()
def dataset(as_of: AsOf = None) -> None:
    """Write the arrays of a run; prints its run_id."""
    _show(steps.dataset(_iso(as_of)))


@app.command()
def teacher(run_id: RunId) -> None:
    """Train the teacher of a run on professional music videos."""
    _show(steps.teacher(run_id))


@app.command()
def student(run_id: RunId) -> None:
    """Train the student of a run on uploaders' picks."""
    _show(steps.student(run_id))


@app.command()
def evaluate(run_id: RunId) -> None:
    """Score a run's model, the champion and the baselines on the held-out picks."""
    _show(steps.evaluate(run_id))


@app.command()
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


@app.command()
def publish(run_id: RunId) -> None:
    """Write the release of a run that passed the gate, and make it current."""
    _show(steps.publish(run_id))


@app.command()
def report(run_id: RunId) -> None:
    """Write the HTML report of a run that the gate has decided on."""
    _show(steps.report(run_id))


@app.command()
def status() -> None:
    """How things stand: days, tables, release, gate, quarantine, running DAG runs."""
    typer.echo(steps.status())


@app.command()
def quarantine(day: Day) -> None:
    """Every row of a landing day that was rejected: reason, id, and what exactly was wrong."""
    typer.echo(steps.quarantine(_iso(day)))


@app.command()
def upkeep(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only say what retention would remove")
    ] = False,
) -> None:
    """What `lake_upkeep` does daily: deletions, retention, compaction; prints the sizes."""
    if dry_run:
        _show(steps.retention(dry_run=True))
        return
    for step in (steps.apply_deletions, steps.retention, steps.compaction):
        _show(step())
    for table, size in steps.sizes().items():
        typer.echo(f"  {table}")
        _show(size)


@app.command()
def retrain(as_of: AsOf = None) -> None:
    """From features to a release: confounders to publish, in order."""
    run_id = _retrain(_iso(as_of))
    typer.echo(steps.summary(run_id))


@app.command()
def run(
    landing: Annotated[
        Path | None, typer.Option("--landing", help="landing folder; default: the settings'")
    ] = None,
) -> None:
    """Everything, without Airflow: each landing day into features, then retrain and publish."""
    from pipeline.landing import landing_days
    from pipeline.settings import load_settings

    if landing is not None:
        # The steps read the settings in force, each for itself.
        os.environ["DEBCM_LANDING__ROOT"] = str(landing.resolve())
    root = load_settings().landing.root
    days = [day.isoformat() for day in landing_days(root)]
    if not days:
        typer.echo(f"{root} holds no dt=YYYY-MM-DD folder", err=True)
        raise typer.Exit(2)
    for day in days:
        typer.echo(f"day {day}")
        _show(steps.ingest(day))
        _extract([day])
    typer.echo(steps.summary(_retrain(days[-1])))


@app.command(
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    }
)
def airflow(context: typer.Context) -> None:
    """Any `airflow` command, in the environment of this checkout."""
    from pipeline.local_airflow import environment

    env = environment()
    os.execvpe("airflow", ["airflow", *context.args], env)  # noqa: S606 (no shell)


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="loopback port")] = 8080,
) -> None:
    """Run Airflow (scheduler, triggerer, API and UI) for this checkout until Ctrl-C."""
    from pipeline.local_airflow import LocalAirflow, environment

    # A service manager ends it by SIGTERM, and a background shell has it ignore SIGINT: both must
    # reach the components, which have sessions of their own.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    typer.echo("starting Airflow, half a minute ...")
    with LocalAirflow(environment(port=port)) as local:
        typer.echo(f"Airflow UI: {local.url}   user: admin   password: {local.password()}")
        typer.echo("Ctrl-C stops it")
        try:
            while not local.ended():
                time.sleep(1)
        except KeyboardInterrupt:
            typer.echo("stopping")


def main() -> None:
    """Entry point: our errors are one line and exit code 1, not a traceback."""
    try:
        app()
    except (PipelineError, EncoderError, WorkerError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(1)


def _extract(days: list[str]) -> None:
    shards = steps.plan(days)
    if not shards:
        typer.echo("  nothing to extract: every clip has features")
    for shard in shards:
        typer.echo(f"  {shard['label']}")
        _show(steps.extract(shard["plan"], shard["shard"]))
    for day in days:
        _show(steps.check(day))


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


def _iso(day: dt.datetime | None) -> str:
    return day.date().isoformat() if day else steps.newest_day()


def _show(result: dict[str, Any]) -> None:
    typer.echo("  " + json.dumps(result, ensure_ascii=False, default=str))
