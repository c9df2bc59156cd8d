"""A sink serves one release whole, whatever fails and when."""

from __future__ import annotations

import dataclasses
import datetime as dt
import traceback
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from pipeline.context import Context
from pipeline.lake.catalog import id_hash
from pipeline.lake.schemas import TABLES
from pipeline.publishing import publish
from pipeline.publishing.history import rollback
from pipeline.publishing.sinks import following, postgres
from pipeline.publishing.sinks.base import ForeignTableError, SinkError
from pipeline.releases.current import read_current
from pipeline.releases.serving import Release
from pipeline.reporting import report
from pipeline.settings.load import Settings
from pipeline.training import evaluate, gate
from pipeline.upkeep import erasure


class MemorySink:
    """What the interface promises, in memory; fails on demand."""

    def __init__(self) -> None:
        self.staged: set[str] = set()
        self.shown: str | None = None
        self.fails: set[str] = set()

    def current(self) -> str | None:
        return self.shown

    def stage(self, folder: Path) -> None:
        self._fail("stage")
        self.staged.add(folder.name)

    def activate(self, release_id: str) -> None:
        self._fail("activate")
        assert release_id in self.staged
        self.shown, self.staged = release_id, {release_id}

    def _fail(self, step: str) -> None:
        if step in self.fails:
            raise SinkError("connection refused", where="memory")


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> MemorySink:
    sink = MemorySink()
    for module in ("pipeline.publishing.sinks.following", "pipeline.publishing.publish"):
        monkeypatch.setattr(f"{module}.open_sinks", lambda _: [sink])
    return sink


def ready(toy, run_id: str) -> None:
    evaluate.run(Context(toy.settings), run_id)
    gate.decide(Context(toy.settings), run_id)


def request(toy, kind: str, name: str) -> None:
    now = dt.datetime(2026, 3, 4, tzinfo=dt.UTC)
    row = {"kind": kind, "id_hash": id_hash(kind, name)}
    row |= {"dt": now.date(), "requested_at": now}
    toy.lake.add("deletions", TABLES["deletions"].frame([row]))


def test_a_sink_follows_publish_rollback_and_deletion(published, next_run, sink) -> None:
    toy = published
    publish.run(Context(toy.settings), toy.run_id)
    assert sink.shown == toy.run_id, "a sink that was added later catches up"
    run_id = next_run(toy)
    ready(toy, run_id)
    publish.run(Context(toy.settings), run_id)
    assert sink.shown == run_id
    rollback(toy.settings, toy.store)
    assert sink.shown == toy.run_id
    request(toy, "video", "v0003")
    erasure.run(Context(toy.settings))
    assert sink.shown == f"{toy.run_id}.1"
    assert sink.staged == {f"{toy.run_id}.1"}


def test_a_sink_that_fails_before_the_switch_leaves_all_as_it_was(
    published, next_run, sink
) -> None:
    toy = published
    publish.run(Context(toy.settings), toy.run_id)
    run_id = next_run(toy)
    ready(toy, run_id)
    sink.fails = {"stage"}
    with pytest.raises(SinkError, match="connection refused"):
        publish.run(Context(toy.settings), run_id)
    assert read_current(toy.store).release_id == toy.run_id
    assert sink.shown == toy.run_id
    sink.fails = set()
    assert publish.run(Context(toy.settings), run_id).published
    assert (sink.shown, sink.staged) == (run_id, {run_id})


def test_a_sink_that_fails_after_the_switch_serves_the_old_one_until_repeated(
    published, next_run, sink
) -> None:
    toy = published
    publish.run(Context(toy.settings), toy.run_id)
    run_id = next_run(toy)
    ready(toy, run_id)
    sink.fails = {"activate"}
    with pytest.raises(SinkError):
        publish.run(Context(toy.settings), run_id)
    assert read_current(toy.store).release_id == run_id
    assert sink.shown == toy.run_id
    sink.fails = set()
    assert not publish.run(Context(toy.settings), run_id).published
    assert sink.shown == run_id


def test_lancedb_serves_the_current_release(published, next_run, publishing, tmp_path) -> None:
    lancedb = pytest.importorskip("lancedb")
    uri = str(tmp_path / "lance")
    toy = with_release(published, lancedb=uri)
    publish.run(Context(toy.settings), toy.run_id)
    check_lance(lancedb, uri, toy)
    publishing(toy, next_run(toy))
    check_lance(lancedb, uri, toy)
    rollback(toy.settings, toy.store)
    check_lance(lancedb, uri, toy)


def check_lance(lancedb, uri: str, toy) -> None:
    database = lancedb.connect(uri)
    release_id = read_current(toy.store).release_id
    current = database.open_table("current").to_arrow()["release_id"].to_pylist()
    assert current == [release_id]
    names = {"current", f"music_{release_id}", f"video_{release_id}"}
    assert set(database.list_tables().tables) == names
    music = database.open_table(f"music_{release_id}")
    assert music.count_rows() == 120
    query = database.open_table(f"video_{release_id}").search().where("video_id = 'v0003'")
    vector = query.to_list()[0]["embedding"]
    found = music.search(np.array(vector, dtype=np.float32)).metric("dot").limit(5).to_list()
    hits = Release.open(toy.settings.lake.root).recommend_known("v0003", top=5)
    assert [row["music_id"] for row in found] == [hit.music_id for hit in hits]


def test_lancedb_keeps_the_tables_of_others(published, next_run, publishing, tmp_path) -> None:
    lancedb = pytest.importorskip("lancedb")
    uri = str(tmp_path / "lance")
    database = lancedb.connect(uri)
    theirs = pa.table({"x": [1]})
    for name in ("users", "music_of_ours", "video_2020-01-01-abc"):
        database.create_table(name, theirs)
    toy = with_release(published, lancedb=uri)
    publish.run(Context(toy.settings), toy.run_id)
    publishing(toy, next_run(toy))
    rollback(toy.settings, toy.store)
    names = set(database.list_tables().tables)
    ours = {"current", f"music_{toy.run_id}", f"video_{toy.run_id}"}
    assert names == {"users", "music_of_ours", "video_2020-01-01-abc"} | ours


@pytest.mark.parametrize("name", ["current", "music_RUN"])
def test_a_lancedb_table_of_the_same_name_is_named_not_replaced(
    published, tmp_path, name: str
) -> None:
    lancedb = pytest.importorskip("lancedb")
    uri, name = str(tmp_path / "lance"), name.replace("RUN", published.run_id)
    database = lancedb.connect(uri)
    database.create_table(name, pa.table({"x": [1]}))
    toy = with_release(published, lancedb=uri)
    with pytest.raises(ForeignTableError, match=name):
        publish.run(Context(toy.settings), toy.run_id)
    assert database.open_table(name).to_arrow()["x"].to_pylist() == [1]


def test_erasure_drops_what_an_unfinished_publication_staged(
    published, next_run, tmp_path, monkeypatch
) -> None:
    lancedb = pytest.importorskip("lancedb")
    uri = str(tmp_path / "lance")
    toy = with_release(published, lancedb=uri)
    publish.run(Context(toy.settings), toy.run_id)
    run_id = next_run(toy)
    ready(toy, run_id)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.publishing.publish.make_current", killed)
        with pytest.raises(KeyboardInterrupt):
            publish.run(Context(toy.settings), run_id)
    assert f"video_{run_id}" in lancedb.connect(uri).list_tables().tables
    # Nothing of it is in the current release: that one stays.
    request(toy, "video", "nobody")
    erasure.run(Context(toy.settings))
    check_lance(lancedb, uri, toy)


def test_a_sink_that_is_away_holds_back_no_other_erasure(published, sink) -> None:
    toy = published
    publish.run(Context(toy.settings), toy.run_id)
    request(toy, "video", "v0003")
    sink.fails = {"stage"}
    with pytest.raises(SinkError):
        erasure.run(Context(toy.settings))
    assert toy.lake.read("videos").filter(video_id="v0003").is_empty()
    assert toy.store.children("runs") == []
    assert read_current(toy.store).release_id == f"{toy.run_id}.1"
    sink.fails = set()
    erasure.run(Context(toy.settings))
    assert sink.staged == {f"{toy.run_id}.1"}


def test_a_sink_ends_with_what_is_current_though_another_came_first(
    published, next_run, sink, monkeypatch
) -> None:
    """Another publisher switches while this one brings the sink to what was current."""
    toy = published
    publish.run(Context(toy.settings), toy.run_id)
    run_id = next_run(toy)
    ready(toy, run_id)
    activate, met = sink.activate, []

    def overtaken(release_id: str) -> None:
        if not met:
            met.append(rollback(toy.settings, toy.store))
        sink.staged.add(release_id)
        activate(release_id)

    monkeypatch.setattr(sink, "activate", overtaken)
    publish.run(Context(toy.settings), run_id)
    assert met == [toy.run_id]
    assert read_current(toy.store).release_id == sink.shown == toy.run_id


def test_a_lancedb_that_cannot_be_written_is_a_passing_error(published, tmp_path) -> None:
    pytest.importorskip("lancedb")
    (tmp_path / "file").write_text("in the way")
    toy = with_release(published, lancedb=str(tmp_path / "file"))
    with pytest.raises(SinkError, match="lancedb"):
        publish.run(Context(toy.settings), toy.run_id)


@pytest.mark.parametrize(
    "connection",
    [
        "postgresql//u:hunter2@h/d",
        "postgresql://u:hunter2@127.0.0.1:1/d",
        "postgresql://u:hun%zzter2@h/d",
        "postgresql://u:hunter2/x@127.0.0.1:1/d",
        "postgresql://u:x@hunter2.invalid/d",
        "host=127.0.0.1 port=1 password=hunter2",
        "host=127.0.0.1 password='hunter2",
    ],
)
def test_no_error_shows_a_password(connection: str) -> None:
    pytest.importorskip("psycopg2")
    with pytest.raises(SinkError, match="postgres") as caught:
        postgres.PostgresSink(connection).current()
    shown = "".join(traceback.format_exception(caught.value))
    assert "hunter2" not in shown
    assert "zzter2" not in shown
    # Not even to what looks deeper than a traceback does.
    assert caught.value.__context__ is None


def test_no_setting_shows_a_password() -> None:
    settings = Settings(release={"postgres": "host=h password=hunter2"})
    assert "hunter2" not in repr(settings)
    for name, value in (
        ("postgres", ["hunter2"]),
        ("postgres", "hunter2"),
        ("lancedb", "s3://k:hunter2@b"),
    ):
        with pytest.raises(ValidationError) as caught:
            Settings(release={name: value})
        assert "hunter2" not in str(caught.value)


def test_no_file_of_a_lake_holds_a_secret(published, next_run, publishing, sink) -> None:
    """Release, model card, evaluation, tables: what goes into them is chosen field by field."""
    alerts = published.settings.alerts.model_copy(update={"webhook": "https://h/hunter2"})
    toy = with_release(published, postgres="host=h password=hunter2")
    settings = toy.settings.model_copy(update={"alerts": alerts})
    toy = dataclasses.replace(toy, settings=settings)
    run_id = next_run(toy)
    publishing(toy, run_id)
    report.run(Context(toy.settings), run_id)
    files = [path for path in Path(toy.store.root).rglob("*") if path.is_file()]
    assert len(files) > 50
    assert not [path for path in files if b"hunter2" in path.read_bytes()]


def with_release(toy, **changes: object):
    release = toy.settings.release.model_copy(update=changes)
    return dataclasses.replace(toy, settings=toy.settings.model_copy(update={"release": release}))


def test_no_sink_is_opened_that_is_not_configured(published) -> None:
    assert following.open_sinks(published.settings.release) == []
