"""Carries out deletion requests: erases the items from every table, run, report and release.

Table `deletions` has the requests as hashes of ids, so items are found by hashing the ids in the
lake. A release keeps its trained towers and loses the items; the next training does without them.
Each part is idempotent and can be killed at any point. The catalogue is erased last, because the
items to erase are found in it.
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
from pipeline.publishing.sinks.following import update_sinks
from pipeline.settings.load import Settings
from pipeline.storage.folder import LEFTOVER_SECONDS
from pipeline.storage.locks import locked
from pipeline.storage.store import Store
from pipeline.upkeep.erase_releases import erase_from_releases
from pipeline.upkeep.erasure_search import (
    content_key,
    mentions_hashed_id,
    mentions_id,
    page_text,
)
from pipeline.upkeep.searched_folders import SearchedFolders

log = logging.getLogger(__name__)

# Retries after an erasure on another machine has removed a folder before it was read here.
_CONFLICT_RETRIES = 3
# Tables with content hashes whose rows are erased by id.
_TABLES_BY_ID = ("videos", "music", "segments", "quarantine")
# The other tables with content hashes.
_TABLES_BY_CONTENT = tuple(
    name
    for name, table in TABLES.items()
    if "content_hash" in table.arrow_schema.names and name not in _TABLES_BY_ID
)
# Id in quarantine of a row without a readable id: the row's place, for example "videos.csv:7".
_PLACE = r"^\w+\.(csv|jsonl|parquet):\d+$"
# A step that read the lake before an erasure writes its results within this time.
_LONGEST_STEP = dt.timedelta(seconds=LEFTOVER_SECONDS)


@dataclass(frozen=True)
class ErasureSummary:
    """What an erasure removed.

    Attributes:
        requests: number of deletion requests so far, including those carried out before.
        videos: number of videos erased.
        music: number of tracks erased.
        rows: number of rows removed or cleared, over all tables.
        runs: runs removed because their dataset had an erased item.
        releases: ids of the new revisions of releases that had an erased item.
    """

    requests: int
    videos: int
    music: int
    rows: int
    runs: tuple[str, ...]
    releases: tuple[str, ...]


@dataclass(frozen=True)
class ItemsToErase:
    """Everything in the lake that the deletion requests concern.

    Attributes:
        videos: video_id, uploader_id, content_hash, request_hash; one row per video.
        music: music_id, content_hash, request_hash; one row per track.
        uploaders: ids of uploaders whose own deletion was requested.
        affected_uploaders: the same, and the uploaders whose statistics counted an erased item.
        quarantined: kind, id (null if it names a kept item or no item), content_hash (may be
            null), request_hash; the quarantine rows of requested videos, tracks and uploaders.
        content_hashes: of the items' files, without files that other items share.
    """

    videos: pl.DataFrame
    music: pl.DataFrame
    uploaders: frozenset[str]
    affected_uploaders: frozenset[str]
    quarantined: pl.DataFrame
    content_hashes: frozenset[str]

    @property
    def ids(self) -> list[str]:
        """Every id to erase, sorted."""
        videos, music = self.videos["video_id"], self.music["music_id"]
        return sorted({*videos, *music, *self.uploaders, *self.quarantined["id"].drop_nulls()})


def run(context: Context) -> ErasureSummary:
    """Carry out every deletion request. Idempotent.

    Old versions of tables keep the rows until upkeep removes those versions.

    Raises:
        ProvenanceError: a release is damaged, so its items are unknown; everything else is erased.
        SinkError: a sink did not accept a release; everything in the lake is erased.
        LakeUnavailableError: the storage does not answer.
    """
    settings, lake, store = context.settings, context.lake, context.store
    requested = frozenset(lake.read("deletions")["id_hash"])
    if not requested:
        return ErasureSummary(0, 0, 0, 0, (), ())
    # Two erasures at once would read runs and releases that the other one removes.
    with locked(store.scratch("tables")):
        for _ in range(_CONFLICT_RETRIES):
            try:
                return _erase(settings, lake, store, requested)
            except ProvenanceError as error:
                # In object storage, the lock does not exclude other machines.
                log.info("erasure starts again; another machine can have removed this: %s", error)
        return _erase(settings, lake, store, requested)


def _erase(
    settings: Settings, lake: Lake, store: Store, requested: frozenset[str]
) -> ErasureSummary:
    items = find_items(lake, requested)
    _record_erasures(lake, items)
    searched = SearchedFolders(store, requested)
    releases, damaged = erase_from_releases(settings, store, requested, searched)
    runs = tuple(
        run
        for run in store.children("runs")
        if _remove_run(store, run, requested, items.content_hashes, searched)
    )
    _remove_reports(lake, store, items)
    rows = _erase_from_tables(lake, items)
    searched.save()
    # Sinks come last, so that an unavailable database delays only its own erasure.
    update_sinks(settings.release, store, drop_staged=True)
    summary = ErasureSummary(
        len(requested), len(items.videos), len(items.music), rows, runs, releases
    )
    log.info("erased: %s", summary)
    if damaged:
        raise ProvenanceError(
            "a damaged release may still have erased items; everything else is erased. Restore "
            "the release or remove its folder. Damage: " + "; ".join(damaged.values()),
            where=", ".join(f"releases/{name}" for name in damaged),
        )
    return summary


def find_items(lake: Lake, requested: Collection[str]) -> ItemsToErase:
    """Find the items whose deletion, or whose uploader's deletion, was requested.

    Args:
        lake: the tables.
        requested: `id_hash` of the requested ids.
    """
    columns = ["video_id", "uploader_id", "music_id", "content_hash"]
    videos = lake.collect(lake.scan("videos").select(columns).unique(), "videos")
    # A landing day that was delivered again without a video leaves the video's segments.
    segments = lake.collect(
        lake.scan("segments").select("video_id", "content_hash").unique(), "segments"
    )
    videos = pl.concat([videos, segments.join(videos, on="video_id", how="anti")], how="diagonal")
    music = lake.collect(lake.scan("music").select("music_id", "content_hash").unique(), "music")
    counted = lake.collect(
        lake.scan("uploader_genres").select("uploader_id").unique(), "uploader_genres"
    )
    rejected = lake.collect(
        lake.scan("quarantine").select("kind", "id", "uploader_id", "content_hash"), "quarantine"
    )
    named = [frame["uploader_id"] for frame in (videos, counted, rejected)]
    uploaders = _requested_ids("uploader", named, requested)
    by_id = _requested_ids("video", [videos["video_id"]], requested)
    tracks = _requested_ids("music", [music["music_id"]], requested)
    videos = videos.with_columns(
        request_hash=pl.coalesce(_look_up("video_id", by_id), _look_up("uploader_id", uploaders))
    )
    music = music.with_columns(request_hash=_look_up("music_id", tracks))
    # Repeated rows of an id in a manifest are numbered in quarantine: "v1 (2)".
    rejected = rejected.with_columns(name=pl.col("id").str.replace(r" \(\d+\)$", ""))
    in_quarantine = {
        kind: _requested_ids(kind, [rejected.filter(kind=kind)["name"]], requested)
        for kind in ("video", "music")
    }
    rejected = rejected.with_columns(
        request_hash=pl.coalesce(
            pl.when(kind="video")
            .then(_look_up("name", in_quarantine["video"]))
            .otherwise(_look_up("name", in_quarantine["music"])),
            _look_up("uploader_id", uploaders),
        )
    )
    is_requested = pl.col("request_hash").is_not_null()
    erased_videos, erased_music = videos.filter(is_requested), music.filter(is_requested)
    kept = {
        *videos.filter(~is_requested)["content_hash"],
        *music.filter(~is_requested)["content_hash"],
    }
    picks = videos.filter(pl.col("music_id").is_in(list(tracks)).fill_null(False))
    affected = {*uploaders, *erased_videos["uploader_id"], *picks["uploader_id"]} - {None}
    # A rejected row of the uploader can have the id of another uploader's video.
    kept_ids = videos.filter(~is_requested)["video_id"].unique()
    nameless = pl.col("name").is_in(kept_ids.implode()) | pl.col("name").str.contains(_PLACE)
    erased_rejects = rejected.filter(is_requested).with_columns(
        name=pl.when((pl.col("kind") == "video") & nameless).then(None).otherwise("name")
    )
    content = {
        *erased_videos["content_hash"],
        *erased_music["content_hash"],
        *erased_rejects["content_hash"].drop_nulls(),
    }
    return ItemsToErase(
        videos=erased_videos.drop("music_id"),
        music=erased_music,
        uploaders=frozenset(uploaders),
        affected_uploaders=frozenset(affected),
        quarantined=erased_rejects.select("kind", "content_hash", "request_hash", id="name"),
        content_hashes=frozenset(content - kept),
    )


def _requested_ids(
    kind: str, columns: Iterable[pl.Series], requested: Collection[str]
) -> dict[str, str]:
    """Return id -> its hash, for the ids in the columns whose deletion was requested."""
    names = {name for column in columns for name in column.drop_nulls().unique()}
    hashes = {name: id_hash(kind, name) for name in names}
    return {name: hashed for name, hashed in hashes.items() if hashed in requested}


def _look_up(column: str, values: dict[str, str]) -> pl.Expr:
    return pl.col(column).replace_strict(values, default=None, return_dtype=pl.String)


def _record_erasures(lake: Lake, items: ItemsToErase) -> None:
    """Record hashes of the items before they are erased; `verify-erased` searches for them."""
    now = dt.datetime.now(dt.UTC)
    videos = items.videos.select("video_id", "content_hash", "request_hash")
    found = [("video", row) for row in videos.iter_rows()]
    found += [("music", row) for row in items.music.iter_rows()]
    rows = {
        (request, id_hash(kind, name)): content_key(content)
        if content in items.content_hashes
        else None
        for kind, (name, content, request) in found
    }
    for name in items.uploaders:
        hashed = id_hash("uploader", name)
        rows[hashed, hashed] = None
    columns = ["kind", "id", "content_hash", "request_hash"]
    for kind, name, content, request in items.quarantined.select(columns).iter_rows():
        key = content_key(content) if content in items.content_hashes else None
        # Without an id, the hash of its content also stands for the item.
        item = id_hash(kind, name) if name is not None else key
        if item is not None and rows.get((request, item)) is None:
            rows[request, item] = key
    frame = TABLES["erasures"].frame(
        [
            {"request_hash": request, "item_hash": item, "content_key": key, "erased_at": now}
            for (request, item), key in sorted(rows.items())
        ]
    )
    lake.add("erasures", frame)


def _remove_run(
    store: Store,
    run_id: str,
    requested: Collection[str],
    content: Collection[str],
    searched: SearchedFolders,
) -> bool:
    """Remove a run and its report if its dataset has, or may have, an item to erase.

    Returns:
        Whether the run was removed.
    """
    children = store.children(f"runs/{run_id}")
    dataset = f"runs/{run_id}/dataset"
    if not children or dataset in searched:
        return False
    if not _may_contain(store, run_id, requested, content):
        searched.add(dataset)
        return False
    # The dataset is removed last: a repeated erasure finds the run by its dataset.
    store.remove(f"reports/{run_id}")
    for child in children:
        if child != "dataset":
            store.remove(f"runs/{run_id}/{child}")
    store.remove(f"runs/{run_id}/dataset")
    store.remove(f"runs/{run_id}")
    return True


def _may_contain(
    store: Store, run_id: str, requested: Collection[str], content: Collection[str]
) -> bool:
    """Return whether a run's dataset has an item to erase, or cannot be read."""
    try:
        folder = store.fetch(f"runs/{run_id}/dataset")
    except ProvenanceError as error:
        log.warning("removing run %s, because its dataset cannot be read: %s", run_id, error)
        return True
    videos = pl.read_parquet(folder / "videos.parquet")
    music = pl.read_parquet(folder / "music.parquet")
    return bool(
        {*videos["content_hash"], *music["content_hash"]} & set(content)
        or _requested_ids("video", [videos["video_id"]], requested)
        or _requested_ids("uploader", [videos["uploader_id"]], requested)
        or _requested_ids("music", [music["music_id"]], requested)
    )


def _remove_reports(lake: Lake, store: Store, items: ItemsToErase) -> None:
    """Remove reports that name an erased item, are damaged, or have lost their run.

    A report also shows examples from quarantine, which are in no dataset.
    """
    erasures = lake.read("erasures")
    runs = set(store.children("runs"))
    for run_id in store.children("reports"):
        name = f"reports/{run_id}"
        texts = _report_texts(store, name) if run_id in runs else None
        # The report can show items that were erased while it was being written.
        written = dt.datetime.fromtimestamp(store.modified(name), dt.UTC)
        meanwhile = erasures.filter(
            pl.col("erased_at").is_between(written - _LONGEST_STEP, written)
        )
        erased_meanwhile = frozenset(meanwhile["item_hash"])
        if texts is None or any(
            _mentions_any(items.ids, text) or mentions_hashed_id(erased_meanwhile, text)
            for text in texts
        ):
            store.remove(name)


def _report_texts(store: Store, name: str) -> list[str] | None:
    """Return the texts of a report's pages; None if it is unfinished or damaged."""
    try:
        folder = store.fetch(name)
    except ProvenanceError as error:
        log.warning("removing %s, because it cannot be read: %s", name, error)
        return None
    pages = sorted(folder.glob("*.html"))
    return [page_text(page.read_text(encoding="utf-8", errors="replace")) for page in pages]


def _mentions_any(ids: list[str], text: str) -> bool:
    """Return whether a text mentions one of many ids."""
    patterns = pl.Series(ids, dtype=pl.String).implode()
    found = pl.Series([text]).str.extract_many(patterns, overlapping=True)[0]
    return any(mentions_id(name, text) for name in set(found))


def _erase_from_tables(lake: Lake, items: ItemsToErase) -> int:
    videos, tracks = items.videos.select("video_id"), items.music.select("music_id")
    content = pl.DataFrame(
        {"content_hash": sorted(items.content_hashes | _reappeared_content(lake))},
        schema={"content_hash": str},
    )
    affected = pl.DataFrame(
        {"uploader_id": sorted(items.affected_uploaders)}, schema={"uploader_id": str}
    )
    rows = sum(lake.delete_matching(table, content) for table in _TABLES_BY_CONTENT)
    rows += _name_kept_copies(lake, items)
    uploaders = pl.DataFrame({"uploader_id": sorted(items.uploaders)}, schema={"uploader_id": str})
    rows += lake.delete_matching("quarantine", _quarantine_keys(lake, items))
    rows += lake.delete_matching("quarantine", uploaders)
    rows += lake.delete_matching("uploader_genres", affected)
    rows += lake.clear_matching("videos", "music_id", tracks)
    rows += lake.delete_matching("segments", videos)
    rows += lake.delete_matching("music", tracks)
    # Table videos is erased last: a repeated erasure finds the uploaders' items in it.
    return rows + lake.delete_matching("videos", videos)


def _reappeared_content(lake: Lake) -> set[str]:
    """Return hashes of erased files whose features a running extraction wrote after the erasure."""
    erased = set(lake.read("erasures")["content_key"].drop_nulls())
    present: set[str] = set()
    for table in _TABLES_BY_CONTENT:
        hashes = lake.collect(lake.scan(table).select("content_hash").unique(), table)
        present |= set(hashes["content_hash"])
    for table in ("videos", "music"):
        hashes = lake.collect(lake.scan(table).select("content_hash").unique(), table)
        present -= set(hashes["content_hash"])
    return {content for content in present if content_key(content) in erased}


def _name_kept_copies(lake: Lake, items: ItemsToErase) -> int:
    """Change the plans that name an erased file whose bytes a kept item has: name the kept file.

    A step that read the catalogue before an erasure can write such a plan afterwards. So this finds
    every planned file that no kept item has, not only those of the items.
    """
    plans = lake.read("shards")
    of_plans = pl.col("content_hash").is_in(plans["content_hash"].unique().implode())
    place = ["content_hash", "dt", "media_path"]
    kept = []
    for table, key, erased in (
        ("videos", "video_id", items.videos),
        ("music", "music_id", items.music),
    ):
        files = lake.collect(lake.scan(table).filter(of_plans).select(key, *place), table)
        kept.append(files.join(erased, on=key, how="anti").select(place))
    copies = pl.concat(kept).sort(place)
    first = copies.unique("content_hash", keep="first")
    moved = plans.join(copies, on=place, how="anti").drop("dt", "media_path")
    return lake.upsert("shards", moved.join(first, on="content_hash").select(plans.columns))


def _quarantine_keys(lake: Lake, items: ItemsToErase) -> pl.DataFrame:
    """Return the keys of quarantine rows that mention an item to erase, or have its file."""
    by_content = pl.col("content_hash").is_in(list(items.content_hashes)).fill_null(False)
    quarantine = lake.read("quarantine").with_columns(
        text=pl.concat_str("id", pl.lit("\n"), "detail"), by_content=by_content
    )
    patterns = pl.Series(items.ids, dtype=pl.String).implode()
    found = quarantine.filter(pl.col("by_content") | pl.col("text").str.contains_any(patterns))
    named = [
        row["by_content"] or _mentions_any(items.ids, row["text"])
        for row in found.iter_rows(named=True)
    ]
    return found.filter(pl.Series(named, dtype=pl.Boolean)).select("kind", "id", "dt", "step")
