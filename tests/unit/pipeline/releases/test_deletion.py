"""What was requested to go is gone from every table, run and release, and nothing else is."""

from __future__ import annotations

import datetime as dt
import io
from contextlib import nullcontext
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from pipeline import confounders, dataset, deletion, erased
from pipeline.catalog import id_hash
from pipeline.deletion import apply_deletions
from pipeline.erased import find_traces, mentions, traces_of
from pipeline.errors import ProvenanceError, ReleaseError
from pipeline.lake import Lake
from pipeline.releases import files, publish
from pipeline.releases.current import read_current
from pipeline.releases.history import promote
from pipeline.releases.serving import Release
from pipeline.releases.verify import verify_folder
from pipeline.schemas import TABLES
from pipeline.storage.folder import MANIFEST as HASHES
from pipeline.storage.store import Store

DAY = dt.date(2026, 3, 3)


def ask(lake: Lake, kind: str, name: str) -> None:
    row = {"kind": kind, "id_hash": id_hash(kind, name), "requested_at": now(), "dt": DAY}
    lake.add("deletions", TABLES["deletions"].frame([row]))


def now() -> dt.datetime:
    return dt.datetime(2026, 3, 4, tzinfo=dt.UTC)


def forget(lake: Lake) -> None:
    for table in TABLES:
        lake.forget_versions(table, 0)


def everything(lake: Lake) -> dict[str, pl.DataFrame]:
    return {
        name: lake.read(name).sort(table.key)
        for name, table in TABLES.items()
        if name not in ("deletions", "erasures")
    }


def quarantine(lake: Lake, *rows: tuple[str, str, str, str | None]) -> None:
    frame = TABLES["quarantine"].frame(
        [
            {
                "kind": kind,
                "id": name,
                "dt": DAY,
                "step": "ingest",
                "reason": "id_conflict",
                "detail": detail,
                "content_hash": content,
                "attempts": 1,
            }
            for kind, name, detail, content in rows
        ]
    )
    lake.replace("quarantine", frame, {"dt": DAY, "step": "ingest"})


def test_without_requests_nothing_happens(published) -> None:
    before = everything(published.lake)
    summary = apply_deletions(published.settings, published.lake, published.store)
    assert summary.requests == 0
    assert everything(published.lake).keys() == before.keys()
    assert published.store.names("releases") == [published.run_id]


@pytest.mark.parametrize(
    ("kind", "name"), [("video", "v0003"), ("music", "m007"), ("uploader", "u05"), ("video", "p03")]
)
def test_nothing_is_left_of_it_and_everything_else_is(published, kind: str, name: str) -> None:
    toy = published
    confounders.summarise(toy.settings, toy.lake, DAY)
    before = everything(toy.lake)
    assert find_traces(toy.lake, toy.store, name), "the search finds what is there"
    assert not any(f.old_version for f in find_traces(toy.lake, toy.store, name))
    ask(toy.lake, kind, name)
    apply_deletions(toy.settings, toy.lake, toy.store)
    left = find_traces(toy.lake, toy.store, name)
    assert left, "old versions hold it until they are vacuumed"
    assert all(finding.old_version for finding in left)
    forget(toy.lake)
    assert find_traces(toy.lake, toy.store, name) == []

    after = everything(toy.lake)
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


def test_the_release_answers_without_it_at_once(published) -> None:
    toy = published
    first = Release.open(toy.settings.lake.root)
    best = first.recommend_known("v0000", top=4)
    ask(toy.lake, "music", best[0].music_id)
    ask(toy.lake, "video", "v0001")
    summary = apply_deletions(toy.settings, toy.lake, toy.store)
    assert summary.releases == (f"{toy.run_id}.1",)
    second = Release.open(toy.settings.lake.root)
    assert second.release_id == f"{toy.run_id}.1"
    hits = second.recommend_known("v0000", top=3)
    assert [hit.music_id for hit in hits] == [hit.music_id for hit in best[1:]]
    assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in best[1:]])
    with pytest.raises(Exception, match="no video 'v0001'"):
        second.recommend_known("v0001")
    assert second.manifest.music == 119
    assert second.manifest.videos == 899
    assert verify_folder(second.folder).queries == 32
    assert toy.store.names("releases") == [f"{toy.run_id}.1"]
    # The towers are those of the model; what is served is the model less the item.
    assert second.manifest.run_id == toy.run_id


def test_every_kept_release_is_written_again_and_history_goes_on(
    published, next_run, publishing
) -> None:
    from pipeline.releases.history import rollback

    toy = published
    run_id = next_run(toy)
    publishing(toy, run_id)
    ask(toy.lake, "video", "v0003")
    apply_deletions(toy.settings, toy.lake, toy.store)
    assert toy.store.names("releases") == [f"{toy.run_id}.1", f"{run_id}.1"]
    assert read_current(toy.store).release_id == f"{run_id}.1"
    ask(toy.lake, "video", "v0004")
    apply_deletions(toy.settings, toy.lake, toy.store)
    assert rollback(toy.settings, toy.store) == f"{toy.run_id}.2"
    assert Release.open(toy.settings.lake.root).manifest.videos == 898


def test_twice_changes_nothing(published) -> None:
    toy = published
    ask(toy.lake, "uploader", "u05")
    apply_deletions(toy.settings, toy.lake, toy.store)
    before = everything(toy.lake), read_current(toy.store)
    again = apply_deletions(toy.settings, toy.lake, toy.store)
    assert (again.videos, again.music, again.rows, again.runs, again.releases) == (0, 0, 0, (), ())
    for name, frame in everything(toy.lake).items():
        assert_frame_equal(frame, before[0][name])
    assert read_current(toy.store) == before[1]


STEPS = [
    "pipeline.deletion._record",
    "pipeline.releases.erasure.write_contents",
    "pipeline.releases.erasure.rename_current",
    "pipeline.storage.store.Store.remove",
    "pipeline.deletion.follow",
    "pipeline.deletion._remove_run",
    "pipeline.deletion._quarantined",
    "pipeline.lake.Lake.clear_matching",
]


@pytest.mark.parametrize("step", STEPS)
def test_stopped_anywhere_and_repeated_it_ends_the_same(
    published, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = published
    for kind, name in (("uploader", "u05"), ("music", "m007")):
        ask(toy.lake, kind, name)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(step, stop)
        with pytest.raises(KeyboardInterrupt):
            apply_deletions(toy.settings, toy.lake, toy.store)
    release = Release.open(toy.settings.lake.root)
    verify_folder(release.folder)
    apply_deletions(toy.settings, toy.lake, toy.store)
    forget(toy.lake)
    assert find_traces(toy.lake, toy.store, "u05") == []
    assert find_traces(toy.lake, toy.store, "m007") == []
    assert traces_of(toy.lake, "u05").items
    assert toy.store.names("releases") == [f"{toy.run_id}.1"]
    assert Release.open(toy.settings.lake.root).release_id == f"{toy.run_id}.1"


@pytest.mark.parametrize("at", [1, 2])
def test_another_machine_at_once_is_no_error(published, monkeypatch, at: int) -> None:
    """In object storage a lock holds one machine: the other removes what this one just listed."""
    toy = published
    ask(toy.lake, "video", "v0003")
    fetch, calls = Store.fetch, []

    def overtaken(store: Store, name: str) -> Path:
        calls.append(name)
        if len(calls) == at:
            other = Store(toy.settings.lake)
            assert apply_deletions(toy.settings, toy.lake, other).requests == 1
        return fetch(store, name)

    monkeypatch.setattr(Store, "fetch", overtaken)
    monkeypatch.setattr(deletion, "locked", lambda _: nullcontext())
    apply_deletions(toy.settings, toy.lake, toy.store)
    assert len(calls) > at
    monkeypatch.undo()
    assert toy.store.names("releases") == [f"{toy.run_id}.1"]
    assert toy.store.children("runs") == []
    forget(toy.lake)
    assert find_traces(toy.lake, toy.store, "v0003") == []


def test_a_file_that_another_id_still_has_keeps_its_features(published) -> None:
    toy = published
    videos = toy.lake.read("videos")
    twin = videos.filter(video_id="v0003")["content_hash"][0]
    shared = videos.with_columns(
        content_hash=pl.when(pl.col("video_id") == "v0004")
        .then(pl.lit(twin))
        .otherwise("content_hash")
    )
    toy.lake.replace("videos", shared, {"dt": DAY})
    ask(toy.lake, "video", "v0003")
    apply_deletions(toy.settings, toy.lake, toy.store)
    assert twin in toy.lake.read("visual_features")["content_hash"].to_list()
    forget(toy.lake)
    assert find_traces(toy.lake, toy.store, "v0003") == []
    ask(toy.lake, "video", "v0004")
    apply_deletions(toy.settings, toy.lake, toy.store)
    assert twin not in toy.lake.read("visual_features")["content_hash"].to_list()
    forget(toy.lake)
    assert find_traces(toy.lake, toy.store, "v0004") == []


def test_quarantine_forgets_it_and_keeps_what_only_looks_alike(published) -> None:
    toy = published
    content = toy.lake.read("videos").filter(video_id="v0003")["content_hash"][0]
    quarantine(
        toy.lake,
        ("video", "v0003", "row 7", None),
        ("video", "v0003 (2)", "first in row 7", None),
        ("video", "v00031", "row 8: field media_path", None),
        ("video", "x1", "same file as v0003", None),
        ("video", "x2", "row 9", content),
        ("music", "m1", "row 1: av0003 xv0003-b", None),
    )
    ask(toy.lake, "video", "v0003")
    apply_deletions(toy.settings, toy.lake, toy.store)
    assert sorted(toy.lake.read("quarantine")["id"]) == ["m1", "v00031"]


def test_what_only_stands_in_quarantine_is_forgotten_too(published) -> None:
    toy = published
    content = "ab" * 32
    quarantine(
        toy.lake,
        ("video", "bad1", "row 7: no video stream", content),
        ("video", "bad1 (2)", "row 8: first in row 7", None),
        ("music", "bad1", "row 3", None),
        ("video", "bad2", "row 9", None),
    )
    ask(toy.lake, "video", "bad1")
    with toy.store.writing(f"reports/{toy.run_id}") as folder:
        (folder / "report.html").write_text("<p>2026-03-03 video bad1: no video stream")
    apply_deletions(toy.settings, toy.lake, toy.store)
    # A track of the same name goes from quarantine with it: its row names the video's id.
    assert toy.lake.read("quarantine")["id"].to_list() == ["bad2"]
    assert toy.store.children("reports") == []
    assert toy.store.children("runs") == [toy.run_id]


def test_reports_of_its_run_and_reports_that_name_it_go(published, next_run) -> None:
    toy = published
    other = next_run(toy)
    names = [toy.run_id, other, "2026-01-01-gone"]
    for name in names:
        with toy.store.writing(f"reports/{name}") as folder:
            (folder / "report.html").write_text("<p>v0099</p>")
    ask(toy.lake, "video", "nobody")
    apply_deletions(toy.settings, toy.lake, toy.store)
    assert toy.store.children("reports") == sorted(names[:2])
    ask(toy.lake, "video", "v0003")
    summary = apply_deletions(toy.settings, toy.lake, toy.store)
    assert set(summary.runs) == {toy.run_id, other}
    assert toy.store.children("reports") == []


def test_what_is_half_written_or_damaged_goes_and_holds_nothing_up(published, next_run) -> None:
    toy = published
    damaged_run, half_run = next_run(toy), next_run(toy, days=2)
    root = Path(toy.settings.lake.root)
    for name in (toy.run_id, half_run, damaged_run):
        with toy.store.writing(f"reports/{name}") as folder:
            (folder / "report.html").write_text("<p>fine</p>")
    ask(toy.lake, "video", "v0003")
    (root / "reports" / toy.run_id / HASHES).unlink()
    (root / "runs" / half_run / "dataset" / HASHES).unlink()
    (root / "runs" / damaged_run / "dataset" / "videos.parquet").write_bytes(b"?")
    (root / "runs" / "2026-01-01-orphan" / "teacher").mkdir(parents=True)
    (root / "releases" / "2026-01-01-half").mkdir()
    (root / "releases" / "2026-01-01-half" / files.VIDEO).write_bytes(b"v0003")
    summary = apply_deletions(toy.settings, toy.lake, toy.store)
    assert set(summary.runs) == {toy.run_id, half_run, damaged_run, "2026-01-01-orphan"}
    assert toy.store.children("reports") == []
    assert toy.store.children("releases") == [f"{toy.run_id}.1"]
    forget(toy.lake)
    assert find_traces(toy.lake, toy.store, "v0003") == []


@pytest.mark.parametrize("file", [files.VIDEO, HASHES])
def test_a_damaged_release_is_named_once_all_else_is_erased(
    published, next_run, publishing, file: str
) -> None:
    toy = published
    run_id = next_run(toy)
    publishing(toy, run_id)
    root = Path(toy.settings.lake.root)
    damaged = root / "releases" / toy.run_id / file
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-1])
    if file == HASHES:
        damaged.unlink()
    ask(toy.lake, "video", "v0003")
    for _ in range(2):
        with pytest.raises(ProvenanceError, match=f"releases/{toy.run_id}"):
            apply_deletions(toy.settings, toy.lake, Store(toy.settings.lake))
    assert read_current(toy.store).release_id == f"{run_id}.1"
    forget(toy.lake)
    left = find_traces(toy.lake, toy.store, "v0003")
    assert {Path(f.file).parts[1] for f in left} == {toy.run_id}
    assert {f.what for f in left} == ({"unknown"} if file == files.VIDEO else {"id"})
    # Restored from a copy, it is written again like the others.
    damaged.write_bytes(whole)
    apply_deletions(toy.settings, toy.lake, Store(toy.settings.lake))
    assert toy.store.names("releases") == [f"{toy.run_id}.1", f"{run_id}.1"]
    assert find_traces(toy.lake, toy.store, "v0003") == []


def test_what_a_step_writes_after_an_erasure_it_did_not_see_goes_next_time(published) -> None:
    """Extraction, dataset, training and report were at work while the item was erased."""
    toy = published
    before = everything(toy.lake)
    content = before["videos"].filter(video_id="v0003")["content_hash"][0]
    ask(toy.lake, "video", "v0003")
    apply_deletions(toy.settings, toy.lake, toy.store)
    features = before["visual_features"].filter(content_hash=content)
    toy.lake.add("visual_features", features)
    with toy.store.writing(f"runs/{toy.run_id}/teacher") as folder:
        (folder / "model").touch()
    late = dataset.build(toy.settings, toy.lake, toy.store, DAY).run_id
    for name, text in ((late, "v0003"), ("2026-01-01-gone", "fine")):
        with toy.store.writing(f"reports/{name}") as folder:
            (folder / "report.html").write_text(f"<p>rejected: media/{text}.mp4")
    assert find_traces(toy.lake, toy.store, "v0003")
    summary = apply_deletions(toy.settings, toy.lake, toy.store)
    assert summary.runs == (toy.run_id,)
    assert toy.store.children("reports") == []
    forget(toy.lake)
    assert find_traces(toy.lake, toy.store, "v0003") == []
    # The same file under another's id is theirs.
    twin = before["videos"].filter(video_id="v0003").with_columns(video_id=pl.lit("theirs"))
    toy.lake.upsert("videos", twin)
    toy.lake.add("visual_features", features)
    apply_deletions(toy.settings, toy.lake, toy.store)
    assert len(toy.lake.read("visual_features").filter(content_hash=content)) == len(features)


def test_every_table_with_content_is_searched() -> None:
    with_content = {n for n, t in TABLES.items() if "content_hash" in t.arrow_schema.names}
    assert with_content == {*deletion._BY_CONTENT, *deletion._WITH_IDS}


def test_no_byte_of_the_lake_holds_it(published, next_run, publishing) -> None:
    """Read raw, without what knows the formats: ids are not compressed in short runs."""
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
    confounders.summarise(toy.settings, toy.lake, DAY)
    hashes = renamed.filter(uploader_id=name)["content_hash"].to_list()
    hashes += tracks.filter(music_id=track)["content_hash"].to_list()
    quarantine(toy.lake, ("video", "bad", f"same file as {video}-v0001", hashes[0]))
    for days in (1, 2):
        run_id = next_run(toy, days=days)
        publishing(toy, run_id)
        (toy.store.scratch(f"runs/{run_id}/teacher-checkpoint") / "rows").write_text(video)
        with toy.store.writing(f"reports/{run_id}") as folder:
            (folder / "report.html").write_text(f"<p>{name} {video}")
    for table in TABLES:
        toy.lake.compact(table)
    wanted = [text.encode() for text in (name, video, track, *hashes)]
    assert len(raw(toy.lake, wanted)) > len(wanted) // 2, "the search finds what is there"
    ask(toy.lake, "uploader", name)
    ask(toy.lake, "music", track)
    apply_deletions(toy.settings, toy.lake, toy.store)
    forget(toy.lake)
    assert raw(toy.lake, wanted) == {}
    for text in (name, track):
        assert find_traces(toy.lake, toy.store, text) == []


def raw(lake: Lake, wanted: list[bytes]) -> dict[bytes, list[str]]:
    """Which of the texts stand in which files, uncompressed where they are Parquet."""
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


def test_requests_for_what_never_was_and_twice_are_kept_and_do_nothing(published) -> None:
    toy = published
    before = everything(toy.lake)
    for kind in ("video", "music", "uploader"):
        for _ in range(2):
            ask(toy.lake, kind, "never-was")
    for _ in range(2):
        summary = apply_deletions(toy.settings, toy.lake, toy.store)
        assert (summary.requests, summary.rows, summary.runs) == (3, 0, ())
    for name, frame in everything(toy.lake).items():
        assert_frame_equal(frame, before[name])


def test_the_next_dataset_is_without_it(published) -> None:
    toy = published
    ask(toy.lake, "uploader", "u05")
    apply_deletions(toy.settings, toy.lake, toy.store)
    assert toy.store.children("runs") == [], "its dataset held the uploader's videos"
    run_id = dataset.build(toy.settings, toy.lake, toy.store, DAY).run_id
    assert run_id != toy.run_id
    found = dataset.load_dataset(toy.store, run_id)
    assert "u05" not in found.videos["uploader_id"].to_list()


def test_a_request_that_comes_between_dataset_and_publish_is_kept(toy, publishing) -> None:
    ask(toy.lake, "video", "v0003")
    ask(toy.lake, "uploader", "u05")
    publishing(toy, toy.run_id)
    names = pl.read_parquet(toy.store.fetch(f"releases/{toy.run_id}") / files.VIDEO)["video_id"]
    uploaders = toy.lake.read("videos").filter(uploader_id="u05")["video_id"].to_list()
    assert not set(names) & {"v0003", *uploaders}
    assert len(names) == 900 - len({"v0003", *uploaders})
    assert apply_deletions(toy.settings, toy.lake, toy.store).releases == ()


@pytest.mark.parametrize(
    ("first", "at"), [(True, "open_sinks"), (False, "open_sinks"), (False, "make_current")]
)
def test_an_erasure_between_writing_a_release_and_its_becoming_current(
    toy, next_run, publishing, monkeypatch: pytest.MonkeyPatch, at: str, first: bool
) -> None:
    run_id = toy.run_id
    if not first:
        publishing(toy, run_id)
        run_id = next_run(toy)
    step = getattr(publish, at)

    def erased_first(*arguments: object) -> object:
        if not toy.lake.version("deletions") >= 0:
            ask(toy.lake, "video", "v0003")
            apply_deletions(toy.settings, toy.lake, Store(toy.settings.lake))
        return step(*arguments)

    monkeypatch.setattr(publish, at, erased_first)
    publishing(toy, run_id)
    apply_deletions(toy.settings, toy.lake, toy.store)
    assert read_current(toy.store).release_id == f"{run_id}.1"
    assert Release.open(toy.settings.lake.root).manifest.videos == 899
    forget(toy.lake)
    assert find_traces(toy.lake, toy.store, "v0003") == []


def test_a_release_that_is_being_put_back_while_it_is_erased_from_is_not_current(
    published, next_run, publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = published
    run_id = next_run(toy)
    publishing(toy, run_id)
    ask(toy.lake, "video", "v0003")

    def erased_meanwhile(_: object) -> None:
        monkeypatch.undo()
        apply_deletions(toy.settings, toy.lake, Store(toy.settings.lake))

    monkeypatch.setattr("pipeline.releases.history.verify_folder", erased_meanwhile)
    with pytest.raises(ReleaseError, match="meanwhile"):
        promote(toy.settings, toy.store, toy.run_id, "by hand")
    assert Release.open(toy.settings.lake.root).release_id == f"{run_id}.1"
    promote(toy.settings, toy.store, f"{toy.run_id}.1", "by hand")


def test_a_catalogue_without_tracks_is_an_empty_release_not_a_crash(published) -> None:
    toy = published
    for name in toy.lake.read("music")["music_id"]:
        ask(toy.lake, "music", name)
    apply_deletions(toy.settings, toy.lake, toy.store)
    release = Release.open(toy.settings.lake.root)
    assert release.recommend_known("v0000") == []
    assert toy.lake.read("videos")["music_id"].null_count() == 960


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
        ask(toy.lake, "video", name)
    assert apply_deletions(toy.settings, toy.lake, toy.store).videos == len(strange)
    forget(toy.lake)
    for name in strange:
        assert find_traces(toy.lake, toy.store, name) == [], name


def test_the_search_reads_every_kind_of_file(published, tmp_path: Path) -> None:
    toy = published
    ask(toy.lake, "video", "v0003")
    content = toy.lake.read("videos").filter(video_id="v0003")["content_hash"][0]
    apply_deletions(toy.settings, toy.lake, toy.store)
    forget(toy.lake)
    assert find_traces(toy.lake, toy.store, "v0003") == []
    root = Path(toy.settings.lake.root)
    planted = {
        "report.html": ('<a href="clips/v0003.mp4">', "id"),
        "card.md": ("| v0003 |", "id"),
        "nested.json": ('{"stats": "{\\"minValues\\": {\\"id\\": \\"v0003\\"}}"}', "id"),
        "lines.json": ('{"a": 1}\n{"b": ["v0003#2"]}', "id"),
        "hash.bin": (f"\x00\x01{content}\x02", "content"),
    }
    for name, (text, _) in planted.items():
        (root / name).write_text(text)
    pl.DataFrame({"x": [{"y": ["a", content]}]}).write_parquet(root / "nested.parquet")
    found = {(f.file, f.what) for f in find_traces(toy.lake, toy.store, "v0003")}
    expected = {(name, what) for name, (_, what) in planted.items()}
    assert found == {*expected, ("nested.parquet", "content")}


def test_the_search_goes_on_past_what_is_damaged_or_removed_meanwhile(
    published, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = published
    root = Path(toy.settings.lake.root)
    (root / "broken.json").write_text('{"id": "v0003"')
    (root / "broken.parquet").write_bytes(b"PAR1v0003")
    for name in ("a.txt", "b.txt"):
        (root / name).write_text("v0003")
    search = erased._search

    def overtaken(file: str, stream: pa.NativeFile, traces: erased.Traces):
        (root / "b.txt").unlink(missing_ok=True)
        return search(file, stream, traces)

    monkeypatch.setattr(erased, "_search", overtaken)
    found = {(f.file, f.what) for f in find_traces(toy.lake, toy.store, "v0003")}
    top = {(file, what) for file, what in found if "/" not in file}
    assert top == {("broken.json", "id"), ("broken.parquet", "unknown"), ("a.txt", "id")}


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("v1", "v1", True),
        ("v1", "a v1.", True),
        ("v1", "media/v1.mp4", True),
        ("v1", "v1#3", True),
        ("v1", "v10 v1", True),
        ("v1", "v10", False),
        ("v1", "av1", False),
        ("v1", "v1-b", False),
        ("v1", "é_v1", False),
        ("a b", "x a b y", True),
    ],
)
def test_an_id_is_a_word(name: str, text: str, found: bool) -> None:
    assert mentions(name, text) is found


def test_forgetting_keeps_what_is_young_enough(published) -> None:
    lake, store = published.lake, published.store
    version = lake.version("videos")
    ask(lake, "video", "v0003")
    apply_deletions(published.settings, lake, store)
    lake.forget_versions("videos", keep_days=7)
    old = lake.collect(lake.scan("videos", version), "videos")
    assert "v0003" in old["video_id"].to_list()
    lake.forget_versions("videos", keep_days=0)
    with pytest.raises(Exception, match=r".+"):
        lake.collect(lake.scan("videos", version), "videos")
    assert len(lake.read("videos")) == 959
    assert deletion.find_items(lake, []).videos.is_empty()
    assert Store(published.settings.lake).names("releases")
