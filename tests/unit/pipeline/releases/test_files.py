"""The files of a release are read back as written, by any reader, and only with their own run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.sound.extractor import AudioExtractor
from features.video.extractor import VisualExtractor
from pipeline.errors import ReleaseError
from pipeline.releases import files
from pipeline.releases.onnx_towers import MUSIC_TOWER, VIDEO_TOWER, open_tower
from pipeline.settings.load import Settings

CHECKOUT = Path(__file__).resolve().parents[4]


def test_polars_pandas_and_duckdb_read_the_embeddings(published) -> None:
    path = published.store.fetch(f"releases/{published.run_id}") / files.MUSIC
    dim = files.read_release_info(published.store.fetch(f"releases/{published.run_id}")).dim
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


def test_vectors_are_read_back_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_ROW_GROUP", 3)
    vectors = np.arange(20, dtype=np.float32).reshape(10, 2)
    texts = pa.table({"id": [f"v{i}" for i in range(10)], "cold": [True] * 10})
    files.write_table(tmp_path / "t.parquet", "run", texts, {"embedding": vectors})
    np.testing.assert_array_equal(
        files.read_vectors(tmp_path / "t.parquet", "run", "embedding"), vectors
    )
    table = files.read_table(tmp_path / "t.parquet", "run", ["id", "cold"])
    assert table.to_pydict() == texts.to_pydict()


def test_a_table_of_another_run_is_refused(tmp_path: Path) -> None:
    vectors = {"embedding": np.zeros((1, 2), np.float32)}
    files.write_table(tmp_path / "t.parquet", "run-a", pa.table({"id": ["v"]}), vectors)
    with pytest.raises(ReleaseError, match="embeddings of run-a, but the release is of run-b"):
        files.read_table(tmp_path / "t.parquet", "run-b")
    pq.write_table(pa.table({"id": ["v"]}), tmp_path / "t.parquet")
    with pytest.raises(ReleaseError, match="embeddings of no run"):
        files.read_table(tmp_path / "t.parquet", "run-b")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_not_written(tmp_path: Path, value: float) -> None:
    vectors = {"embedding": np.array([[0.0, value]], np.float32)}
    with pytest.raises(ReleaseError, match="column embedding has NaN or infinite values"):
        files.write_table(tmp_path / "t.parquet", "run", pa.table({"id": ["v"]}), vectors)
    assert not (tmp_path / "t.parquet").exists()


@pytest.mark.parametrize("damage", [b"{", b"[]", b'{"format": 9}', b'{"format": 1}', None])
def test_a_missing_damaged_or_foreign_manifest_is_an_error(published, damage: bytes | None) -> None:
    folder = published.store.fetch(f"releases/{published.run_id}")
    assert files.read_release_info(folder).run_id == published.run_id
    (folder / files.INFO_FILE).unlink()
    if damage is not None:
        (folder / files.INFO_FILE).write_bytes(damage)
    with pytest.raises(ReleaseError, match=r"manifest\.json"):
        files.read_release_info(folder)


def test_equal_documents_give_equal_bytes(tmp_path: Path) -> None:
    for name, document in (("a", {"x": 1, "y": [2.5]}), ("b", {"y": [2.5], "x": 1})):
        files.write_json(tmp_path / name, document)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert json.loads((tmp_path / "a").read_text()) == {"x": 1, "y": [2.5]}
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "c", {"x": float("nan")})


def test_known_queries_and_inputs_of_the_towers_are_as_docs_releases_says(published) -> None:
    """Fault 42."""
    folder = published.store.fetch(f"releases/{published.run_id}")
    page = (CHECKOUT / "docs" / "releases.md").read_text(encoding="utf-8")
    queries = pq.read_schema(folder / files.QUERIES)
    assert queries.names == ["video_id", "features"]
    assert "| `known_queries.parquet` | `video_id`, `features`:" in page
    info = files.read_release_info(folder)
    table = re.findall(
        r"^\| (video|music) \| `(\w+)` \| (\w+) \[rows(, \d+)?\] ", page, re.MULTILINE
    )
    stated = {(tower, name, f"tensor({kind})", bool(width)) for tower, name, kind, width in table}
    found = set()
    for tower, path in (("video", VIDEO_TOWER), ("music", MUSIC_TOWER)):
        session = open_tower(folder, path, info.run_id)
        for entry in session.get_inputs():
            kind = entry.type.replace("tensor(float)", "tensor(float32)")
            found.add((tower, entry.name, kind, len(entry.shape) == 2))
        assert [entry.name for entry in session.get_outputs()] == ["embedding"]
        assert session.get_outputs()[0].shape[1] == info.dim
    assert stated == found
    default = Settings()
    widths = [str(len_of(VisualExtractor(default.visual).blocks))]
    widths.append(str(len_of(AudioExtractor(default.audio).blocks)))
    assert [width.strip(", ") for *_, width in table if width] == widths
    assert f"({default.model.dim + 1} by default)" in page
    assert info.dim == published.settings.model.dim + 1
    assert "in the list `groups` of `manifest.json`" in page
    assert info.groups


def len_of(blocks: Mapping[str, slice]) -> int:
    return max(block.stop for block in blocks.values())
