"""Verification finds changed files, files of other runs, and wrong answers."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from pipeline.errors import ProvenanceError, ReleaseError
from pipeline.releases import files
from pipeline.releases.onnx_towers import VIDEO_TOWER
from pipeline.releases.verify import verify_folder
from pipeline.storage.folder import CHECKSUMS, write_checksums


def damaged(published, tmp_path: Path) -> Path:
    copy = tmp_path / "damaged"
    shutil.copytree(published.store.fetch(f"releases/{published.run_id}"), copy)
    return copy


def test_an_undamaged_release_verifies(published) -> None:
    found = verify_folder(published.store.fetch(f"releases/{published.run_id}"))
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


def test_a_missing_file_and_an_unknown_file_are_found(published, tmp_path: Path) -> None:
    copy = damaged(published, tmp_path)
    (copy / "extra.bin").write_bytes(b"x")
    with pytest.raises(ProvenanceError, match="has no checksum"):
        verify_folder(copy)
    (copy / "extra.bin").rename(copy / files.CARD)
    (copy / files.METRICS).unlink()
    with pytest.raises(ProvenanceError):
        verify_folder(copy)


def test_embeddings_of_another_run_are_found_despite_right_checksums(
    published, tmp_path: Path
) -> None:
    copy = damaged(published, tmp_path)
    table = pq.read_table(copy / files.VIDEO).replace_schema_metadata({"run_id": "2026-01-01-x"})
    pq.write_table(table, copy / files.VIDEO)
    write_checksums(copy)
    with pytest.raises(ReleaseError, match="2026-01-01-x"):
        verify_folder(copy)


def test_wrong_answers_are_found_despite_right_checksums(published, tmp_path: Path) -> None:
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


def test_a_tower_that_contradicts_the_stored_embeddings_is_found(published, tmp_path: Path) -> None:
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


def test_without_checksums_the_safetensors_towers_are_compared(published, tmp_path: Path) -> None:
    """As publishing does, before it writes the checksums."""
    copy = damaged(published, tmp_path)
    (copy / CHECKSUMS).unlink()
    assert verify_folder(copy).files == 0
    rotation = copy / "alignment.safetensors"
    numbers = load_file(rotation)["rotation"]
    save_file({"rotation": -numbers}, rotation, metadata={"run_id": published.run_id})
    with pytest.raises(ReleaseError, match="forms of a tower differ"):
        verify_folder(copy)
