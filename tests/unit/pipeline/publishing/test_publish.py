"""A release is whole or absent, says what it is, and is refused where its parts do not fit."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import numpy as np
import onnxruntime as ort
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.context import Context
from pipeline.errors import ProvenanceError, ReleaseError
from pipeline.publishing import publish
from pipeline.publishing.history import rollback
from pipeline.releases import files
from pipeline.releases.current import make_current, read_current
from pipeline.releases.onnx_towers import MUSIC_TOWER, VIDEO_TOWER
from pipeline.releases.serving import Release
from pipeline.releases.towers import load_towers
from pipeline.releases.verify import verify_folder
from pipeline.storage.folder import write_checksums
from pipeline.training import evaluate, gate
from pipeline.training.dataset import load_dataset
from pipeline.training.gate import ForceRequest


def folder_of(toy) -> Path:
    return toy.store.fetch(f"releases/{toy.run_id}")


def digest(folder: Path) -> dict[str, str]:
    return json.loads((folder / "folder.json").read_text())["sha256"]


def test_an_undecided_run_is_not_published(toy) -> None:
    with pytest.raises(ReleaseError, match="has not decided"):
        publish.run(Context(toy.settings), toy.run_id)
    assert toy.store.names("releases") == []


def test_a_refused_run_is_not_published_and_the_rule_is_named(toy) -> None:
    strict = toy.settings.gate.model_copy(update={"min_test_rows": 1000})
    settings = toy.settings.model_copy(update={"gate": strict})
    evaluate.run(Context(settings), toy.run_id)
    gate.decide(Context(settings), toy.run_id)
    with pytest.raises(ReleaseError, match="enough_rows"):
        publish.run(Context(settings), toy.run_id)
    assert read_current(toy.store) is None
    gate.decide(Context(settings), toy.run_id, ForceRequest("Ada", "a demonstration"))
    assert publish.run(Context(settings), toy.run_id).published
    assert read_current(toy.store).promotions[0].why == "forced by Ada: a demonstration"
    manifest = files.read_release_info(folder_of(toy))
    assert manifest.decision["force"] == {"by": "Ada", "reason": "a demonstration"}


def test_publishing_twice_does_nothing(published) -> None:
    before = digest(folder_of(published)), read_current(published.store)
    summary = publish.run(Context(published.settings), published.run_id)
    assert not summary.published
    assert (digest(folder_of(published)), read_current(published.store)) == before


def test_equal_inputs_give_equal_bytes(published, toy, publishing) -> None:
    publishing(toy, toy.run_id)
    assert digest(folder_of(toy)) == digest(folder_of(published))


def test_the_embeddings_are_the_models(published) -> None:
    data = load_dataset(published.store, published.run_id)
    folder = folder_of(published)
    towers = load_towers(folder)
    videos = files.read_table(folder / files.VIDEO, published.run_id, ["video_id"])
    np.testing.assert_array_equal(
        files.read_vectors(folder / files.VIDEO, published.run_id, "embedding"),
        towers.embed_videos(data.training.video),
    )
    assert videos["video_id"].to_pylist() == data.videos["video_id"].to_list()


@pytest.mark.parametrize("kind", ["video", "music"])
def test_onnx_and_safetensors_agree(published, kind: str) -> None:
    data = load_dataset(published.store, published.run_id).training
    folder = folder_of(published)
    towers = load_towers(folder)
    name = VIDEO_TOWER if kind == "video" else MUSIC_TOWER
    session = ort.InferenceSession(str(folder / name))
    feed = {"features": getattr(data, kind)}
    if kind == "video":
        expected = towers.embed_videos(data.video)
    else:
        feed["genre_group"] = data.genre_group
        expected = towers.embed_music(data.music, data.genre_group)
    found = session.run(None, feed)[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert session.get_modelmeta().custom_metadata_map["run_id"] == published.run_id


def test_polars_pandas_and_duckdb_read_the_embeddings(published) -> None:
    path = folder_of(published) / files.MUSIC
    dim = files.read_release_info(folder_of(published)).dim
    expected = files.read_vectors(path, published.run_id, "embedding")
    frame = pl.read_parquet(path)
    assert frame.schema["embedding"] == pl.Array(pl.Float32, dim)
    np.testing.assert_array_equal(frame["embedding"].to_numpy(), expected)
    np.testing.assert_array_equal(np.stack(pd.read_parquet(path)["embedding"].to_numpy()), expected)
    with duckdb.connect() as connection:
        rows = connection.execute(
            "SELECT music_id, embedding FROM read_parquet(?) ORDER BY music_id", [str(path)]
        ).fetchall()
    np.testing.assert_array_equal(
        np.array([row[1] for row in rows], dtype=np.float32), expected[frame["music_id"].arg_sort()]
    )
    element = pq.read_schema(path).field("embedding")
    assert not element.nullable
    assert not element.type.value_field.nullable


def damaged(published, tmp_path: Path) -> Path:
    copy = tmp_path / "damaged"
    shutil.copytree(folder_of(published), copy)
    return copy


def test_a_good_release_verifies(published) -> None:
    found = verify_folder(folder_of(published))
    assert found.queries == 32
    assert found.files == 12
    assert found.tower_difference <= 1e-4
    assert found.index_recall == 1.0


@pytest.mark.parametrize("name", [files.MUSIC, files.INDEX, VIDEO_TOWER, "model/model.json"])
def test_one_changed_byte_is_found(published, tmp_path: Path, name: str) -> None:
    copy = damaged(published, tmp_path)
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(ProvenanceError, match=name):
        verify_folder(copy)


def test_a_missing_and_an_unknown_file_are_found(published, tmp_path: Path) -> None:
    copy = damaged(published, tmp_path)
    (copy / "extra.bin").write_bytes(b"x")
    with pytest.raises(ProvenanceError, match="has no checksum"):
        verify_folder(copy)
    (copy / "extra.bin").rename(copy / files.CARD)
    (copy / files.METRICS).unlink()
    with pytest.raises(ProvenanceError):
        verify_folder(copy)


def test_embeddings_of_another_run_are_refused_though_their_hash_is_right(
    published, tmp_path: Path
) -> None:
    copy = damaged(published, tmp_path)
    table = pq.read_table(copy / files.VIDEO).replace_schema_metadata({"run_id": "2026-01-01-x"})
    pq.write_table(table, copy / files.VIDEO)
    write_checksums(copy)
    with pytest.raises(ReleaseError, match="2026-01-01-x"):
        verify_folder(copy)


def test_answers_that_are_wrong_are_found_though_every_hash_is_right(
    published, tmp_path: Path
) -> None:
    copy = damaged(published, tmp_path)
    table = pq.read_table(copy / files.MUSIC)
    vectors = files.read_vectors(copy / files.MUSIC, published.run_id, "embedding")[::-1].ravel()
    column = pa.FixedSizeListArray.from_arrays(
        pa.array(vectors), type=table.schema.field("embedding").type
    )
    at = table.schema.get_field_index("embedding")
    pq.write_table(table.set_column(at, table.schema.field(at), column), copy / files.MUSIC)
    write_checksums(copy)
    with pytest.raises(ReleaseError, match="known query"):
        verify_folder(copy)


def test_a_tower_that_differs_from_the_embeddings_is_found(published, tmp_path: Path) -> None:
    copy = damaged(published, tmp_path)
    queries = pl.read_parquet(copy / files.QUERIES)
    changed = queries.with_columns(features=pl.col("features").arr.eval(pl.element() + 1))
    files.write_table(
        copy / files.QUERIES,
        published.run_id,
        queries.select("video_id").to_arrow(),
        {"features": changed["features"].to_numpy()},
    )
    write_checksums(copy)
    with pytest.raises(ReleaseError, match="forms of a tower differ"):
        verify_folder(copy)


def test_an_index_that_loses_too_much_is_refused(toy, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate.run(Context(toy.settings), toy.run_id)
    gate.decide(Context(toy.settings), toy.run_id)
    monkeypatch.setattr("pipeline.releases.index._NEIGHBOURS", 2)
    monkeypatch.setattr("pipeline.releases.index._EF_CONSTRUCTION", 1)
    monkeypatch.setattr("pipeline.releases.index._EF_SEARCH", 1)
    release = toy.settings.release.model_copy(update={"flat_index_below": 10})
    settings = toy.settings.model_copy(update={"release": release})
    with pytest.raises(ReleaseError, match="flat_index_below"):
        publish.run(Context(settings), toy.run_id)
    assert toy.store.names("releases") == []
    assert read_current(toy.store) is None


def test_a_challenger_judged_against_another_champion_is_not_published(
    published, next_run, publishing
) -> None:
    first, second = next_run(published, days=1), next_run(published, days=2)
    evaluate.run(Context(published.settings), first)
    gate.decide(Context(published.settings), first)
    publishing(published, second)
    with pytest.raises(ReleaseError, match="evaluate the run again"):
        publish.run(Context(published.settings), first)
    assert read_current(published.store).run_id == second
    publishing(published, first)
    assert read_current(published.store).run_id == first


def test_a_run_that_was_taken_back_is_not_published_by_a_repeated_night(
    published, next_run, publishing
) -> None:
    run_id = next_run(published)
    publishing(published, run_id)
    rollback(published.settings, published.store)
    summary = publish.run(Context(published.settings), run_id)
    assert not summary.published
    assert read_current(published.store).run_id == published.run_id


def test_two_publishers_at_once_end_in_one_release(toy) -> None:
    evaluate.run(Context(toy.settings), toy.run_id)
    gate.decide(Context(toy.settings), toy.run_id)
    arguments = [str(toy.settings.lake.root), toy.run_id]
    both = [start_publisher(*arguments) for _ in range(2)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    assert [p.release_id for p in read_current(toy.store).promotions] == [toy.run_id]
    verify_folder(folder_of(toy))


def start_publisher(root: str, run_id: str) -> subprocess.Popen[bytes]:
    # One that hangs says where, and ends.
    code = (
        "import faulthandler; faulthandler.dump_traceback_later(100, exit=True);"
        "import sys; from pipeline.settings.load import load_settings;"
        "from pipeline.context import Context; from pipeline.publishing import publish;"
        "s = load_settings(lake={'root': sys.argv[1]});"
        "publish.run(Context(s), sys.argv[2])"
    )
    return subprocess.Popen([sys.executable, "-c", code, root, run_id])


def test_a_killed_publish_leaves_the_old_release_and_the_next_one_ends_well(
    published, next_run, tmp_path: Path
) -> None:
    run_id = next_run(published)
    evaluate.run(Context(published.settings), run_id)
    gate.decide(Context(published.settings), run_id)
    releases = Path(published.settings.lake.root) / "releases"
    with start_publisher(published.settings.lake.root, run_id) as process:
        # Killed while the folder is being written: after its first file, before its last.
        while process.poll() is None and not list(releases.glob(".aside-*/model/*")):
            time.sleep(0.001)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert published.store.names("releases") == [published.run_id]
    assert Release.open(published.settings.lake.root).release_id == published.run_id
    assert publish.run(Context(published.settings), run_id).published
    assert Release.open(published.settings.lake.root).release_id == run_id
    assert len(published.store.sweep(older_than=9e9)) == 1
    assert sorted(p.name for p in releases.iterdir()) == sorted(
        [published.run_id, run_id, "current.json"]
    )


def test_readers_see_the_old_release_or_the_new_one_whole_during_200_switches(
    published, next_run, publishing
) -> None:
    run_id = next_run(published)
    publishing(published, run_id)
    names = [published.run_id, run_id]
    root = Path(published.settings.lake.root)
    done = False

    def read() -> list[str]:
        seen = []
        while not done:
            release = Release.open(root)
            # One release whole: its parts name one run, and its answer is its own.
            assert release.folder.name == release.info.release_id
            hits = release.recommend_known("v0000", top=1)
            seen.append(f"{release.release_id} {hits[0].music_id} {hits[0].score:.4f}")
        return seen

    expected = {
        f"{name} {hit.music_id} {hit.score:.4f}"
        for name in names
        for hit in Release(root / "releases" / name).recommend_known("v0000", top=1)
    }
    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for switch in range(200):
            make_current(published.store, names[switch % 2], "switch", lambda _: None)
        done = True
        seen = [reader.result() for reader in readers]
    assert all(seen)
    assert {answer for answers in seen for answer in answers} <= expected
    assert len(read_current(published.store).promotions) == 202
