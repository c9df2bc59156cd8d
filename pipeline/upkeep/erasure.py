"""Deletion requests reach every table, run and release.

Table `deletions` holds requests as hashes of ids, so an item is found by hashing the ids that
the lake holds. Until the model is trained anew, a deletion is enforced at the releases. Every
part may be killed and repeated: the catalogue, from which the items are known, is the last to
forget them.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import polars as pl

from pipeline.context import Context
from pipeline.errors import ProvenanceError
from pipeline.lake.catalog import id_hash
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.publishing.sinks.following import follow
from pipeline.settings.load import Settings
from pipeline.storage.folder import LEFTOVER_SECONDS
from pipeline.storage.locks import locked
from pipeline.storage.store import Store
from pipeline.upkeep.erase_releases import erase_from_releases
from pipeline.upkeep.erasure_search import content_key, mentions, names_any, visible

log = logging.getLogger(__name__)

# How often another machine's deletions may remove what this one was about to read.
_OVERTAKEN = 3
# Tables keyed by a file's content: all that name it but those with ids of their own.
_WITH_IDS = ("videos", "music", "segments", "quarantine")
_BY_CONTENT = tuple(
    name
    for name, table in TABLES.items()
    if "content_hash" in table.arrow_schema.names and name not in _WITH_IDS
)
# How long a step that read the lake before an erasure may take to write what it read.
_LATE = dt.timedelta(seconds=LEFTOVER_SECONDS)


@dataclass(frozen=True)
class DeletionSummary:
    """What carrying out the requests changed; all but `requests` empty where nothing was left.

    Attributes:
        requests: requests known.
        videos: videos erased.
        music: tracks erased.
        rows: rows removed or cleared, over all tables.
        runs: runs removed because their dataset held an erased item.
        releases: releases written again without the items, by their new ids.
    """

    requests: int
    videos: int
    music: int
    rows: int
    runs: tuple[str, ...]
    releases: tuple[str, ...]


@dataclass(frozen=True)
class Items:
    """What the catalogue holds of what must go.

    Attributes:
        videos: video_id, uploader_id, content_hash, request_hash; a row a video.
        music: music_id, content_hash, request_hash; a row a track.
        uploaders: ids of the uploaders who asked for their own deletion.
        affected: ids of these, and of uploaders whose statistics counted an erased item.
        rejected: ids that never entered the catalogue and stand in quarantine alone.
        content: hashes of files that nothing else in the catalogue refers to.
    """

    videos: pl.DataFrame
    music: pl.DataFrame
    uploaders: frozenset[str]
    affected: frozenset[str]
    rejected: frozenset[str]
    content: frozenset[str]

    @property
    def names(self) -> list[str]:
        """Every id that must not be found again."""
        videos, music = self.videos["video_id"], self.music["music_id"]
        return sorted({*videos, *music, *self.uploaders, *self.rejected})


def run(context: Context) -> DeletionSummary:
    """Carry out every deletion request; doing it again does nothing.

    Old versions of tables keep the rows until `Lake.remove_old_versions` removes them.

    Raises:
        ProvenanceError: a release is damaged, so that nobody knows what it holds; everything else
            is carried out.
        SinkError: a database did not take a release; everything in the lake is carried out.
        LakeUnavailableError: the storage does not answer.
    """
    settings, lake, store = context.settings, context.lake, context.store
    requested = frozenset(lake.read("deletions")["id_hash"])
    if not requested:
        return DeletionSummary(0, 0, 0, 0, (), ())
    # A second one at once would read runs and releases that the first removes.
    with locked(store.scratch("tables")):
        for _ in range(_OVERTAKEN):
            try:
                return _apply(settings, lake, store, requested)
            except ProvenanceError as error:
                # In object storage a lock holds this machine alone: look again at what is left.
                log.info("deletions begin again, another machine's may have removed it: %s", error)
        return _apply(settings, lake, store, requested)


def _apply(
    settings: Settings, lake: Lake, store: Store, requested: frozenset[str]
) -> DeletionSummary:
    items = find_items(lake, requested)
    _record(lake, items)
    releases, damaged = erase_from_releases(settings, store, requested)
    runs = tuple(
        run for run in store.children("runs") if _remove_run(store, run, requested, items.content)
    )
    _remove_reports(lake, store, items)
    rows = _erase_from_tables(lake, items)
    # Last: a database that is away holds back its own copies, not the erasure of the others.
    follow(settings.release, store, tidy=True)
    summary = DeletionSummary(
        len(requested), len(items.videos), len(items.music), rows, runs, releases
    )
    log.info("deletions: %s", summary)
    if damaged:
        raise ProvenanceError(
            "damaged, so what it holds is not known; everything else is erased. Restore it, or "
            "remove the folder: " + "; ".join(damaged.values()),
            where=", ".join(f"releases/{name}" for name in damaged),
        )
    return summary


def find_items(lake: Lake, requested: Collection[str]) -> Items:
    """The items of the catalogue whose hashed id, or whose uploader's, was requested.

    Args:
        lake: the tables.
        requested: `id_hash` of table `deletions`.
    """
    columns = ["video_id", "uploader_id", "music_id", "content_hash"]
    videos = lake.collect(lake.scan("videos").select(columns).unique(), "videos")
    # A landing day that changed may have taken a video out of the catalogue, not its segments.
    segments = lake.collect(
        lake.scan("segments").select("video_id", "content_hash").unique(), "segments"
    )
    videos = pl.concat([videos, segments.join(videos, on="video_id", how="anti")], how="diagonal")
    music = lake.collect(lake.scan("music").select("music_id", "content_hash").unique(), "music")
    counted = lake.collect(lake.scan("uploader_genres").select("uploader_id").unique(), "videos")

    uploaders = _requested("uploader", [videos["uploader_id"], counted["uploader_id"]], requested)
    by_id = _requested("video", [videos["video_id"]], requested)
    tracks = _requested("music", [music["music_id"]], requested)
    videos = videos.with_columns(
        request_hash=pl.coalesce(_mapped("video_id", by_id), _mapped("uploader_id", uploaders))
    )
    music = music.with_columns(request_hash=_mapped("music_id", tracks))
    waiting = lake.collect(lake.scan("quarantine").select("kind", "id", "content_hash"), "videos")
    # Further rows of one id in one manifest are numbered: "v1 (2)".
    waiting = waiting.with_columns(name=pl.col("id").str.replace(r" \(\d+\)$", ""))
    rejected = {
        name
        for kind in ("video", "music")
        for name in _requested(kind, [waiting.filter(kind=kind)["name"]], requested)
    }
    asked_for = pl.col("request_hash").is_not_null()
    gone, gone_music = videos.filter(asked_for), music.filter(asked_for)
    kept = {*videos.filter(~asked_for)["content_hash"], *music.filter(~asked_for)["content_hash"]}
    picked_gone = videos.filter(pl.col("music_id").is_in(list(tracks)).fill_null(False))
    affected = {*uploaders, *gone["uploader_id"], *picked_gone["uploader_id"]} - {None}
    gone_waiting = waiting.filter(pl.col("name").is_in(list(rejected)))["content_hash"].drop_nulls()
    content = {*gone["content_hash"], *gone_music["content_hash"], *gone_waiting} - kept
    return Items(
        gone.drop("music_id"),
        gone_music,
        frozenset(uploaders),
        frozenset(affected),
        frozenset(rejected),
        frozenset(content),
    )


def _requested(
    kind: str, columns: Iterable[pl.Series], requested: Collection[str]
) -> dict[str, str]:
    """Id -> its hash, for the ids in the columns whose hash was requested."""
    names = {name for column in columns for name in column.drop_nulls().unique()}
    hashes = {name: id_hash(kind, name) for name in names}
    return {name: hashed for name, hashed in hashes.items() if hashed in requested}


def _mapped(column: str, values: dict[str, str]) -> pl.Expr:
    return pl.col(column).replace_strict(values, default=None, return_dtype=pl.String)


def _record(lake: Lake, items: Items) -> None:
    """Write down, as hashes, what is about to be erased: `verify-erased` looks for it."""
    now = dt.datetime.now(dt.UTC)
    videos = items.videos.select("video_id", "content_hash", "request_hash")
    found = [("video", row) for row in videos.iter_rows()]
    found += [("music", row) for row in items.music.iter_rows()]
    rows = {
        (request, id_hash(kind, name)): content_key(content) if content in items.content else None
        for kind, (name, content, request) in found
    }
    for name in items.uploaders:
        hashed = id_hash("uploader", name)
        rows[hashed, hashed] = None
    frame = TABLES["erasures"].frame(
        [
            {"request_hash": request, "item_hash": item, "content_key": key, "erased_at": now}
            for (request, item), key in sorted(rows.items())
        ]
    )
    lake.add("erasures", frame)


def _remove_run(
    store: Store, run_id: str, requested: Collection[str], content: Collection[str]
) -> bool:
    """Remove a run, and its report, whose dataset holds a requested item or its file.

    Likewise one without a readable dataset: nobody knows what its models learnt from.
    """
    children = store.children(f"runs/{run_id}")
    if not children or not _holds(store, run_id, requested, content):
        return False
    # The dataset says what the other folders hold, so it goes last.
    store.remove(f"reports/{run_id}")
    for child in children:
        if child != "dataset":
            store.remove(f"runs/{run_id}/{child}")
    store.remove(f"runs/{run_id}/dataset")
    store.remove(f"runs/{run_id}")
    return True


def _holds(store: Store, run_id: str, requested: Collection[str], content: Collection[str]) -> bool:
    """Whether a run's dataset holds a requested item or its file, or cannot be read."""
    try:
        folder = store.fetch(f"runs/{run_id}/dataset")
    except ProvenanceError as error:
        log.warning("run %s goes as a whole: %s", run_id, error)
        return True
    videos = pl.read_parquet(folder / "videos.parquet")
    music = pl.read_parquet(folder / "music.parquet")
    return bool(
        {*videos["content_hash"], *music["content_hash"]} & set(content)
        or _requested("video", [videos["video_id"]], requested)
        or _requested("uploader", [videos["uploader_id"]], requested)
        or _requested("music", [music["music_id"]], requested)
    )


def _remove_reports(lake: Lake, store: Store, items: Items) -> None:
    """Remove reports that name an erased item, and those of which nobody knows what they show.

    A report also gives examples of the quarantine, which no dataset holds.
    """
    erasures = lake.read("erasures")
    runs = set(store.children("runs"))
    for run_id in store.children("reports"):
        name = f"reports/{run_id}"
        texts = _pages(store, name) if run_id in runs else None
        # Its writer may have read the lake before an erasure that came before its last word.
        written = dt.datetime.fromtimestamp(store.modified(name), dt.UTC)
        meanwhile = erasures.filter(pl.col("erased_at").is_between(written - _LATE, written))
        hashes = frozenset(meanwhile["item_hash"])
        if texts is None or any(
            _named_in(items.names, text) or names_any(hashes, text) for text in texts
        ):
            store.remove(name)


def _pages(store: Store, name: str) -> list[str] | None:
    """The texts of a report; None where it is half written or damaged."""
    try:
        folder = store.fetch(name)
    except ProvenanceError as error:
        log.warning("%s goes: %s", name, error)
        return None
    pages = sorted(folder.glob("*.html"))
    return [visible(page.read_text(encoding="utf-8", errors="replace")) for page in pages]


def _named_in(names: list[str], text: str) -> bool:
    """Whether a text names one of many ids."""
    patterns = pl.Series(names, dtype=pl.String).implode()
    found = pl.Series([text]).str.extract_many(patterns, overlapping=True)[0]
    return any(mentions(name, text) for name in set(found))


def _erase_from_tables(lake: Lake, items: Items) -> int:
    videos, tracks = items.videos.select("video_id"), items.music.select("music_id")
    content = pl.DataFrame(
        {"content_hash": sorted(items.content | _late(lake))}, schema={"content_hash": str}
    )
    affected = pl.DataFrame({"uploader_id": sorted(items.affected)}, schema={"uploader_id": str})
    rows = sum(lake.delete_matching(table, content) for table in _BY_CONTENT)
    rows += lake.delete_matching("quarantine", _quarantined(lake, items))
    rows += lake.delete_matching("uploader_genres", affected)
    rows += lake.clear_matching("videos", "music_id", tracks)
    rows += lake.delete_matching("segments", videos)
    rows += lake.delete_matching("music", tracks)
    # The videos name the uploaders: they are what a repeated erasure starts from.
    return rows + lake.delete_matching("videos", videos)


def _late(lake: Lake) -> set[str]:
    """Hashes of erased files whose features came after the erasure: extraction was at work."""
    erased = set(lake.read("erasures")["content_key"].drop_nulls())
    held: set[str] = set()
    for table in _BY_CONTENT:
        hashes = lake.collect(lake.scan(table).select("content_hash").unique(), table)
        held |= set(hashes["content_hash"])
    for table in ("videos", "music"):
        hashes = lake.collect(lake.scan(table).select("content_hash").unique(), table)
        held -= set(hashes["content_hash"])
    return {content for content in held if content_key(content) in erased}


def _quarantined(lake: Lake, items: Items) -> pl.DataFrame:
    """Keys of the quarantine's rows that name an erased item or uploader, or its file."""
    by_content = pl.col("content_hash").is_in(list(items.content)).fill_null(False)
    quarantine = lake.read("quarantine").with_columns(
        text=pl.concat_str("id", pl.lit("\n"), "detail"), by_content=by_content
    )
    patterns = pl.Series(items.names, dtype=pl.String).implode()
    found = quarantine.filter(pl.col("by_content") | pl.col("text").str.contains_any(patterns))
    named = [
        row["by_content"] or _named_in(items.names, row["text"])
        for row in found.iter_rows(named=True)
    ]
    return found.filter(pl.Series(named, dtype=pl.Boolean)).select("kind", "id", "dt", "step")
