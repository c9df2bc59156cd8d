"""Defines the commands `debcm release ...`, `debcm recommend` and `debcm verify-erased`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.reporting.text import table

if TYPE_CHECKING:
    from pipeline.releases.serving import Recommendation
    from pipeline.settings.load import Settings
    from pipeline.storage.store import Store
    from pipeline.upkeep.erasure_search import ErasureRecord

# Exit code of `verify-erased` if nothing was found, but the id was never erased.
NOT_ON_RECORD = 4

# Commands import modules when they run: `debcm --help` must not wait for ONNX Runtime or torch.

release_app = typer.Typer(
    name="release",
    no_args_is_help=True,
    help="List, inspect, compare and switch the kept releases.",
)

ReleaseId = Annotated[
    str, typer.Argument(metavar="RELEASE_ID", help="id from `debcm release list`")
]
OptionalReleaseId = Annotated[
    str | None,
    typer.Argument(
        metavar="[RELEASE_ID]", help="id from `debcm release list`; default: the current release"
    ),
]
Reason = Annotated[str, typer.Option("--reason", help="why you switch; recorded")]


@release_app.command("list")
def list_releases() -> None:
    """List the kept releases, newest first; * marks the current one."""
    from pipeline.publishing import history

    _, store = _open()
    entries = history.list_releases(store)
    if not entries:
        typer.echo("no release has been published yet")
        return
    rows = [
        (
            "*" if entry.current else "",
            entry.release_id,
            f"{entry.music:,}",
            f"{entry.videos:,}",
            "damaged" if entry.damage else f"{entry.recall:.3f} ({entry.measure})",
            entry.promoted_at or "never",
            entry.why,
        )
        for entry in entries
    ]
    _table(("", "release", "music", "videos", "recall", "current since", "why"), rows)
    for entry in entries:
        if entry.damage:
            typer.echo(entry.damage, err=True)


@release_app.command()
def show(release_id: OptionalReleaseId = None) -> None:
    """Print the model card of a release."""
    from pipeline.publishing import history
    from pipeline.releases import files

    _, store = _open()
    release_id = release_id or _current(store)
    history.require_release(store, release_id)
    folder = store.fetch(f"releases/{release_id}")
    typer.echo((folder / files.CARD).read_text(encoding="utf-8"))
    typer.echo(f"files: {folder}")


@release_app.command()
def verify(release_id: OptionalReleaseId = None) -> None:
    """Check a release: compare its files with their checksums and run its known queries."""
    from pipeline.publishing import history

    _, store = _open()
    found = history.verify_release(store, release_id or _current(store))
    typer.echo(
        f"{found.release_id}: valid. {found.files} files match their checksums; {found.queries} "
        f"known queries answered as expected; largest tower difference "
        f"{found.tower_difference:.1e}; index recall {found.index_recall:.2%}"
    )


@release_app.command()
def diff(old: ReleaseId, new: OptionalReleaseId = None) -> None:
    """Show what changed between two releases."""
    from pipeline.publishing import history

    _, store = _open()
    found = history.diff(store, old, new or _current(store))
    _table(
        ("measure", found.old, found.new),
        [(name, f"{a:.4f}", f"{b:.4f}") for name, (a, b) in sorted(found.metrics.items())],
    )
    typer.echo(f"music: {found.music_added} added, {found.music_removed} removed")
    typer.echo(f"videos: {found.videos_added} added, {found.videos_removed} removed")
    if found.music_drift is not None:
        typer.echo(f"mean cosine distance of music in both: {found.music_drift:.4f}")
    if found.same_recommendations is not None:
        typer.echo(f"top-10 overlap for videos in both: {found.same_recommendations:.1%}")
    for name, (a, b) in found.changed.items():
        typer.echo(f"{name}: {a} -> {b}")


@release_app.command()
def rollback(reason: Reason = "rolled back") -> None:
    """Make the previous release current again."""
    from pipeline.publishing import history

    settings, store = _open()
    typer.echo(f"current release: {history.rollback(settings, store, reason)}")


@release_app.command()
def promote(release_id: ReleaseId, reason: Reason = "promoted by hand") -> None:
    """Verify a kept release and make it current."""
    from pipeline.publishing import history

    settings, store = _open()
    history.promote(settings, store, release_id, reason)
    typer.echo(f"current release: {release_id}")


def recommend(
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="a video file")],
    top: Annotated[int, typer.Option(min=1, help="number of tracks")] = 10,
    genre: Annotated[str | None, typer.Option(help="only this genre or genre group")] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="music_id to leave out; repeatable")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="show the parts of the score")] = False,
) -> None:
    """Rank music for a video file with the current release."""
    from features import MediaError
    from pipeline.releases.serving import Release

    _, store = _open()
    release = Release(store.fetch(f"releases/{_current(store)}"))
    try:
        hits = release.recommend(video, top=top, genre=genre, exclude=exclude or ())
    except MediaError as error:
        # Without the reason's remedy: it is about landing days, not about a single file.
        typer.echo(f"{video}: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"release {release.release_id}")
    _show_hits(hits, explain=explain)


def verify_erased(
    name: Annotated[str, typer.Argument(metavar="ID", help="id of a video, track or uploader")],
) -> None:
    """Search every file of the lake for an erased id and its content.

    The exit code is 1 if any is found, and 4 if none is found but the id was never erased.
    """
    from pipeline.lake.tables import Lake
    from pipeline.upkeep.erasure_search import find_traces, read_erasure_record

    settings, store = _open()
    # Searching a missing lake would report that nothing was found.
    require_lake(settings)
    lake = Lake(settings.lake)
    record = read_erasure_record(lake, name)
    findings = find_traces(lake, store, name)
    removal = _removal(record, settings.lake.keep_versions_days)
    for finding in findings:
        note = f" (old version of a table; {removal})" if finding.old_version else ""
        typer.echo(f"{finding.file}: {finding.place}: {finding.what}{note}")
    if findings:
        typer.echo(f"found in {len(findings)} places", err=True)
    else:
        typer.echo("not found in any file")
    if record.erased_at is None:
        typer.echo(f"no erasure of this id is on record; {_why_not_erased(record)}", err=True)
    if findings or record.erased_at is None:
        raise typer.Exit(1 if findings else NOT_ON_RECORD)


def _removal(record: ErasureRecord, keep_days: float) -> str:
    """Say when upkeep removes the old versions of tables that still have the id."""
    if record.erased_at:
        expiry = record.erased_at + dt.timedelta(days=keep_days)
        # If this has passed, a step wrote the id again during the erasure; upkeep erased it later.
        if expiry > dt.datetime.now(dt.UTC):
            return f"the first upkeep after {expiry:%Y-%m-%d %H:%M} UTC removes it"
    return f"upkeep removes it {keep_days:g} days after it was replaced"


def _why_not_erased(record: ErasureRecord) -> str:
    if record.requested is None:
        return "its deletion was not requested either. Check the spelling of the id"
    return (
        f"its deletion was requested in landing day {record.requested}. Upkeep has not run since, "
        "or the lake had nothing of this id"
    )


def require_lake(settings: Settings) -> None:
    """Check that the lake exists.

    Raises:
        LakeUnavailableError: there is no lake at [lake] root.
    """
    from pipeline.errors import LakeUnavailableError
    from pipeline.storage.presence import lake_exists

    if not lake_exists(settings.lake.root):
        raise LakeUnavailableError("no such lake", where=settings.lake.root)


def _open() -> tuple[Settings, Store]:
    from pipeline.settings.load import load_settings
    from pipeline.storage.store import Store

    settings = load_settings()
    return settings, Store(settings.lake)


def _current(store: Store) -> str:
    from pipeline.errors import PUBLISH_FIRST, ReleaseError
    from pipeline.releases.current import read_current

    current = read_current(store)
    if current is None:
        raise ReleaseError(
            "no release has been published yet", where=str(store.root), remedy=PUBLISH_FIRST
        )
    return current.release_id


def _show_hits(hits: Sequence[Recommendation], *, explain: bool) -> None:
    head = ["", "music", "title", "artist", "genre", "score"]
    rows = []
    for hit in hits:
        row = [str(hit.rank), hit.music_id, hit.title, hit.artist, hit.genre, f"{hit.score:+.3f}"]
        if explain:
            row += [f"{hit.unadjusted:+.3f}", f"{-hit.taken_away:+.3f}"]
        rows.append(row)
    _table([*head, "= unadjusted", "+ debiasing"] if explain else head, rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    for line in table([head, *rows]):
        typer.echo(line)
