"""The LanceDB sink, against a database in a folder."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pipeline.context import Context
from pipeline.publishing import publish
from pipeline.publishing.history import rollback
from pipeline.publishing.sinks.base import ForeignTableError, SinkError
from pipeline.releases.current import read_current
from pipeline.releases.serving import Release
from pipeline.upkeep import erasure

lancedb = pytest.importorskip("lancedb")


def test_it_serves_the_current_release(
    published, next_run, publishing, tmp_path, with_release
) -> None:
    uri = str(tmp_path / "lance")
    toy = with_release(published, lancedb=uri)
    publish.run(Context(toy.settings), toy.run_id)
    check(uri, toy)
    publishing(toy, next_run(toy))
    check(uri, toy)
    rollback(toy.settings, toy.store)
    check(uri, toy)


def check(uri: str, toy) -> None:
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


def test_tables_of_other_users_are_kept(
    published, next_run, publishing, tmp_path, with_release
) -> None:
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
def test_a_foreign_table_of_the_same_name_is_not_replaced(
    published, tmp_path, name: str, with_release
) -> None:
    uri, name = str(tmp_path / "lance"), name.replace("RUN", published.run_id)
    database = lancedb.connect(uri)
    database.create_table(name, pa.table({"x": [1]}))
    toy = with_release(published, lancedb=uri)
    with pytest.raises(ForeignTableError, match=name):
        publish.run(Context(toy.settings), toy.run_id)
    assert database.open_table(name).to_arrow()["x"].to_pylist() == [1]


def test_erasure_drops_tables_staged_by_an_unfinished_publication(
    published, next_run, tmp_path, monkeypatch, pass_gate, with_release
) -> None:
    uri = str(tmp_path / "lance")
    toy = with_release(published, lancedb=uri)
    publish.run(Context(toy.settings), toy.run_id)
    run_id = next_run(toy)
    pass_gate(toy, run_id)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.publishing.publish.make_current", killed)
        with pytest.raises(KeyboardInterrupt):
            publish.run(Context(toy.settings), run_id)
    assert f"video_{run_id}" in lancedb.connect(uri).list_tables().tables
    # Nothing of it is in the current release: that one stays.
    toy.request_deletions("video", "nobody")
    erasure.run(Context(toy.settings))
    check(uri, toy)


def test_an_unwritable_database_is_a_transient_error(published, tmp_path, with_release) -> None:
    (tmp_path / "file").write_text("in the way")
    toy = with_release(published, lancedb=str(tmp_path / "file"))
    with pytest.raises(SinkError, match="lancedb"):
        publish.run(Context(toy.settings), toy.run_id)
