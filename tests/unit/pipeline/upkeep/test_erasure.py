"""Erasure removes the requested items from every table, run and report, and nothing else."""

from __future__ import annotations

import datetime as dt
import io
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from pipeline.context import Context
from pipeline.errors import ProvenanceError
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.releases import files
from pipeline.releases.current import read_current
from pipeline.storage.folder import CHECKSUMS
from pipeline.training import confounders, dataset
from pipeline.upkeep import erasure, erasure_search
from pipeline.upkeep.erasure_search import FindingKind, find_traces

DAY = dt.date(2026, 3, 3)


def test_without_requests_nothing_happens(published) -> None:
    before = published.all_rows()
    summary = erasure.run(Context(published.settings))
    assert summary.requests == 0
    for name, frame in published.all_rows().items():
        assert_frame_equal(frame, before[name])
    assert published.store.names("releases") == [published.run_id]


@pytest.mark.parametrize(
    ("kind", "name"), [("video", "v0003"), ("music", "m007"), ("uploader", "u05"), ("video", "p03")]
)
def test_no_trace_is_left_and_everything_else_is_kept(published, kind: str, name: str) -> None:
    toy = published
    confounders.run(Context(toy.settings), DAY)
    before = toy.all_rows()
    assert find_traces(toy.lake, toy.store, name), "the search must find existing data"
    assert not any(f.old_version for f in find_traces(toy.lake, toy.store, name))
    toy.request_deletions(kind, name)
    erasure.run(Context(toy.settings))
    left = find_traces(toy.lake, toy.store, name)
    assert left, "old versions have it until they are removed"
    assert all(finding.old_version for finding in left)
    toy.remove_old_versions()
    assert find_traces(toy.lake, toy.store, name) == []

    after = toy.all_rows()
    videos = before["videos"]
    gone = videos.filter((pl.col("video_id") == name) | (pl.col("uploader_id") == name))
    hashes = gone["content_hash"].to_list()
    if kind == "music":
        hashes = before["music"].filter(music_id=name)["content_hash"].to_list()
        videos = videos.with_columns(
            music_id=pl.when(pl.col("music_id") == name).then(None).otherwise("music_id")
        )
        gone = before["videos"].filter(music_id=name)
        kept = videos
    else:
        kept = videos.join(gone, on="video_id", how="anti")
    assert_frame_equal(after["videos"], kept)
    for table in ("visual_features", "audio_features"):
        expected = before[table].filter(~pl.col("content_hash").is_in(hashes))
        assert_frame_equal(after[table], expected)
        assert len(expected) < len(before[table]) or table != (
            "audio_features" if kind == "music" else "visual_features"
        )
    affected = gone["uploader_id"].drop_nulls().to_list()
    assert_frame_equal(
        after["uploader_genres"],
        before["uploader_genres"].filter(~pl.col("uploader_id").is_in(affected)),
    )
    segments = before["segments"]
    assert_frame_equal(after["segments"], segments.filter(pl.col("video_id") != name))


def test_erasure_is_idempotent(published) -> None:
    toy = published
    toy.request_deletions("uploader", "u05")
    erasure.run(Context(toy.settings))
    before = toy.all_rows(), read_current(toy.store)
    again = erasure.run(Context(toy.settings))
    assert (again.videos, again.music, again.rows, again.runs, again.releases) == (0, 0, 0, (), ())
    for name, frame in toy.all_rows().items():
        assert_frame_equal(frame, before[0][name])
    assert read_current(toy.store) == before[1]


def test_repeated_requests_for_unknown_ids_change_nothing(published) -> None:
    toy = published
    before = toy.all_rows()
    for kind in ("video", "music", "uploader"):
        for _ in range(2):
            toy.request_deletions(kind, "never-was")
    for _ in range(2):
        summary = erasure.run(Context(toy.settings))
        assert (summary.requests, summary.rows, summary.runs) == (3, 0, ())
    for name, frame in toy.all_rows().items():
        assert_frame_equal(frame, before[name])


def test_features_of_a_file_shared_with_another_id_are_kept(published) -> None:
    toy = published
    videos = toy.lake.read("videos")
    twin = videos.filter(video_id="v0003")["content_hash"][0]
    shared = videos.with_columns(
        content_hash=pl.when(pl.col("video_id") == "v0004")
        .then(pl.lit(twin))
        .otherwise("content_hash")
    )
    toy.lake.replace("videos", shared, {"dt": DAY})
    toy.request_deletions("video", "v0003")
    erasure.run(Context(toy.settings))
    assert twin in toy.lake.read("visual_features")["content_hash"].to_list()
    toy.remove_old_versions()
    assert find_traces(toy.lake, toy.store, "v0003") == []
    toy.request_deletions("video", "v0004")
    erasure.run(Context(toy.settings))
    assert twin not in toy.lake.read("visual_features")["content_hash"].to_list()
    toy.remove_old_versions()
    assert find_traces(toy.lake, toy.store, "v0004") == []


def test_every_table_with_content_is_searched() -> None:
    with_content = {n for n, t in TABLES.items() if "content_hash" in t.arrow_schema.names}
    assert with_content == {*erasure._TABLES_BY_CONTENT, *erasure._TABLES_BY_ID}


def test_rows_of_similar_ids_stay_in_quarantine(published) -> None:
    toy = published
    content = toy.lake.read("videos").filter(video_id="v0003")["content_hash"][0]
    toy.quarantine(
        ("video", "v0003", "row 7", None),
        ("video", "v0003 (2)", "first in row 7", None),
        ("video", "v00031", "row 8: field media_path", None),
        ("video", "x1", "same file as v0003", None),
        ("video", "x2", "row 9", content),
        ("music", "m1", "row 1: av0003 xv0003-b", None),
    )
    toy.request_deletions("video", "v0003")
    erasure.run(Context(toy.settings))
    assert sorted(toy.lake.read("quarantine")["id"]) == ["m1", "v00031"]


def test_rejected_videos_of_an_erased_uploader_are_erased(published) -> None:
    toy = published
    owned_by_another = toy.lake.read("videos").filter(uploader_id="u06")["video_id"][0]
    content = "ab" * 32
    toy.quarantine(
        ("video", "bad1", "row 1: no video stream", content),
        ("video", "bad1 (2)", "row 2: first in row 1", None),
        ("video", owned_by_another, "row 3: the id belongs to another day", "cd" * 32),
        ("video", "videos.csv:7", "row 7, field source: empty", None),
        uploader_id="u05",
    )
    toy.quarantine(
        ("video", "bad1b", "row 4", None),
        ("video", f"{owned_by_another} (2)", "row 5", None),
        ("video", "videos.csv:9", "row 9", None),
        uploader_id="u06",
    )
    toy.request_deletions("uploader", "u05")
    erasure.run(Context(toy.settings))
    left = sorted(toy.lake.read("quarantine")["id"])
    assert left == sorted(["bad1b", f"{owned_by_another} (2)", "videos.csv:9"])
    assert owned_by_another in toy.lake.read("videos")["video_id"].to_list()
    toy.remove_old_versions()
    assert find_traces(toy.lake, toy.store, "u05") == []
    # The check also finds the rejected video's id and content.
    with toy.store.writing("reports/2026-03-04-later") as folder:
        (folder / "report.html").write_text(f"<p>bad1</p><p>{content}</p>")
    found = {finding.what for finding in find_traces(toy.lake, toy.store, "u05")}
    assert found == {FindingKind.ITEM, FindingKind.CONTENT}


def test_an_uploader_who_is_only_in_quarantine_is_erased(published) -> None:
    toy = published
    toy.quarantine(("video", "bad1", "row 1: no video stream", None), uploader_id="nobody")
    toy.request_deletions("uploader", "nobody")
    assert find_traces(toy.lake, toy.store, "nobody")
    erasure.run(Context(toy.settings))
    assert toy.lake.read("quarantine").is_empty()
    assert erasure_search.read_erasure_record(toy.lake, "nobody").erased_at is not None
    assert erasure.run(Context(toy.settings)).rows == 0


def test_plans_name_the_kept_copy_of_a_file_shared_with_an_erased_video(published) -> None:
    toy = published
    videos = toy.lake.read("videos")
    erased, kept = (videos.filter(uploader_id=name).row(0, named=True) for name in ("u05", "u06"))
    shared = videos.with_columns(
        content_hash=pl.when(video_id=kept["video_id"])
        .then(pl.lit(erased["content_hash"]))
        .otherwise("content_hash")
    )
    toy.lake.replace("videos", shared, {"dt": DAY})
    same = {"plan": "p", "shard": 0, "job": "video", "dt": DAY, "duration": 8.0, "cost": 1.0}
    other = videos.filter(uploader_id="u07").row(0, named=True)
    named = [{key: row[key] for key in ("content_hash", "media_path")} for row in (erased, other)]
    plan = TABLES["shards"].frame([row | same for row in named])
    toy.lake.add("shards", plan)
    toy.request_deletions("uploader", "u05")
    erasure.run(Context(toy.settings))
    paths = toy.lake.read("shards").select("content_hash", "media_path").rows()
    assert sorted(paths) == sorted(
        [(erased["content_hash"], kept["media_path"]), (other["content_hash"], other["media_path"])]
    )
    # An extraction that read the catalogue before can write its plan afterwards.
    toy.lake.upsert("shards", plan)
    erasure.run(Context(toy.settings))
    assert sorted(toy.lake.read("shards").select("content_hash", "media_path").rows()) == sorted(
        paths
    )
    toy.remove_old_versions()
    assert find_traces(toy.lake, toy.store, "u05") == []


def test_items_that_are_only_in_quarantine_are_erased(published) -> None:
    toy = published
    content = "ab" * 32
    toy.quarantine(
        ("video", "bad1", "row 7: no video stream", content),
        ("video", "bad1 (2)", "row 8: first in row 7", None),
        ("music", "bad1", "row 3", None),
        ("video", "bad2", "row 9", None),
    )
    toy.request_deletions("video", "bad1")
    with toy.store.writing(f"reports/{toy.run_id}") as folder:
        (folder / "report.html").write_text("<p>2026-03-03 video bad1: no video stream")
    erasure.run(Context(toy.settings))
    # The row of a track with the same id is erased too, because it mentions the video's id.
    assert toy.lake.read("quarantine")["id"].to_list() == ["bad2"]
    assert toy.store.children("reports") == []
    assert toy.store.children("runs") == [toy.run_id]


def test_reports_of_erased_runs_and_reports_that_mention_the_id_are_removed(
    published, next_run
) -> None:
    toy = published
    other = next_run(toy)
    names = [toy.run_id, other, "2026-01-01-gone"]
    for name in names:
        with toy.store.writing(f"reports/{name}") as folder:
            (folder / "report.html").write_text("<p>v0099</p>")
    toy.request_deletions("video", "nobody")
    erasure.run(Context(toy.settings))
    assert toy.store.children("reports") == sorted(names[:2])
    toy.request_deletions("video", "v0003")
    summary = erasure.run(Context(toy.settings))
    assert set(summary.runs) == {toy.run_id, other}
    assert toy.store.children("reports") == []


def test_unfinished_and_damaged_folders_are_removed_without_an_error(published, next_run) -> None:
    toy = published
    damaged_run, half_run = next_run(toy), next_run(toy, days=2)
    root = Path(toy.settings.lake.root)
    for name in (toy.run_id, half_run, damaged_run):
        with toy.store.writing(f"reports/{name}") as folder:
            (folder / "report.html").write_text("<p>fine</p>")
    toy.request_deletions("video", "v0003")
    (root / "reports" / toy.run_id / CHECKSUMS).unlink()
    (root / "runs" / half_run / "dataset" / CHECKSUMS).unlink()
    (root / "runs" / damaged_run / "dataset" / "videos.parquet").write_bytes(b"?")
    (root / "runs" / "2026-01-01-orphan" / "teacher").mkdir(parents=True)
    (root / "releases" / "2026-01-01-half").mkdir()
    (root / "releases" / "2026-01-01-half" / files.VIDEO).write_bytes(b"v0003")
    summary = erasure.run(Context(toy.settings))
    assert set(summary.runs) == {toy.run_id, half_run, damaged_run, "2026-01-01-orphan"}
    assert toy.store.children("reports") == []
    assert toy.store.children("releases") == [f"{toy.run_id}.1"]
    toy.remove_old_versions()
    assert find_traces(toy.lake, toy.store, "v0003") == []


def test_the_next_dataset_does_not_have_the_erased_items(published) -> None:
    toy = published
    toy.request_deletions("uploader", "u05")
    erasure.run(Context(toy.settings))
    assert toy.store.children("runs") == [], "its dataset had the uploader's videos"
    run_id = dataset.build(Context(toy.settings), DAY).run_id
    assert run_id != toy.run_id
    found = dataset.load_dataset(toy.store, run_id)
    assert "u05" not in found.videos["uploader_id"].to_list()


def test_ids_of_any_shape_are_erased(published) -> None:
    toy = published
    strange = ["<b>&\"'; DROP--", "日本 語🎵", "../../etc/passwd", "a" * 4096, "=1+1", "4200000042"]
    videos = toy.lake.read("videos")
    renamed = videos.with_row_index().with_columns(
        video_id=pl.when(pl.col("index") < len(strange))
        .then(pl.Series([*strange, *[""] * (len(videos) - len(strange))]))
        .otherwise("video_id")
    )
    toy.lake.replace("videos", renamed.drop("index"), {"dt": DAY})
    for name in strange:
        assert any(f.place == "video_id" for f in find_traces(toy.lake, toy.store, name)), name
        toy.request_deletions("video", name)
    assert erasure.run(Context(toy.settings)).videos == len(strange)
    toy.remove_old_versions()
    for name in strange:
        assert find_traces(toy.lake, toy.store, name) == [], name


def test_no_file_of_the_lake_contains_the_erased_bytes(published, next_run, publishing) -> None:
    """The search reads raw bytes, so that it does not depend on the code under test."""
    toy = published
    name, video, track = "uploader-of-this-test", "video-of-this-test", "track-of-this-test"
    videos = toy.lake.read("videos")
    mine = pl.col("uploader_id") == "u05"
    renamed = videos.with_columns(
        video_id=pl.when(mine).then(video + "-" + pl.col("video_id")).otherwise("video_id"),
        uploader_id=pl.when(mine).then(pl.lit(name)).otherwise("uploader_id"),
        music_id=pl.col("music_id").replace("m007", track),
    )
    toy.lake.replace("videos", renamed, {"dt": DAY})
    tracks = toy.lake.read("music").with_columns(pl.col("music_id").replace("m007", track))
    for day in tracks["dt"].unique():
        toy.lake.replace("music", tracks.filter(dt=day), {"dt": day})
    confounders.run(Context(toy.settings), DAY)
    hashes = renamed.filter(uploader_id=name)["content_hash"].to_list()
    hashes += tracks.filter(music_id=track)["content_hash"].to_list()
    toy.quarantine(("video", "bad", f"same file as {video}-v0001", hashes[0]))
    for days in (1, 2):
        run_id = next_run(toy, days=days)
        publishing(toy, run_id)
        (toy.store.scratch(f"runs/{run_id}/teacher-checkpoint") / "rows").write_text(video)
        with toy.store.writing(f"reports/{run_id}") as folder:
            (folder / "report.html").write_text(f"<p>{name} {video}")
    for table in TABLES:
        toy.lake.compact(table)
    wanted = [text.encode() for text in (name, video, track, *hashes)]
    assert len(raw(toy.lake, wanted)) > len(wanted) // 2, "the search must find existing data"
    toy.request_deletions("uploader", name)
    toy.request_deletions("music", track)
    erasure.run(Context(toy.settings))
    toy.remove_old_versions()
    assert raw(toy.lake, wanted) == {}
    for text in (name, track):
        assert find_traces(toy.lake, toy.store, text) == []


def raw(lake: Lake, wanted: list[bytes]) -> dict[bytes, list[str]]:
    """Return text -> files that contain it; Parquet files are searched uncompressed."""
    found: dict[bytes, list[str]] = {}
    for path in Path(lake.root).rglob("*"):
        if path.is_dir():
            continue
        content = path.read_bytes()
        if path.suffix == ".parquet":
            plain = io.BytesIO()
            table = pq.read_table(path)
            pq.write_table(table, plain, compression="none", use_dictionary=False)
            content += plain.getvalue()
        for text in wanted:
            if text in content or text in str(path).encode():
                found.setdefault(text, []).append(str(path))
    return found


def test_old_versions_are_kept_for_keep_versions_days(published) -> None:
    lake = published.lake
    version = lake.version("videos")
    published.request_deletions("video", "v0003")
    erasure.run(Context(published.settings))
    lake.remove_old_versions("videos", keep_days=7)
    old = lake.collect(lake.scan("videos", version), "videos")
    assert "v0003" in old["video_id"].to_list()
    lake.remove_old_versions("videos", keep_days=0)
    with pytest.raises(ProvenanceError, match=f"no version {version}"):
        lake.collect(lake.scan("videos", version), "videos")
    assert len(lake.read("videos")) == 959
