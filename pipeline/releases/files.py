"""The files of a release: names, columns and the manifest. No lake, no training code.

music.parquet and video.parquet are plain Parquet: fixed-size lists of non-null float32 that
polars, pandas, duckdb and Spark read alike. Every file with embeddings or weights names the
run that trained it, and is refused beside files of another run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from features.arrays import Float32Array
from pipeline.errors import ReleaseError

INFO_FILE = "manifest.json"
MUSIC = "music.parquet"
VIDEO = "video.parquet"
QUERIES = "known_queries.parquet"
INDEX = "music.faiss"
METRICS = "metrics.json"
CARD = "model_card.md"
FORMAT = 1

MUSIC_TEXTS = ("music_id", "title", "artist", "genre", "genre_group")
VIDEO_TEXTS = ("video_id", "uploader_hash")

# Rows that are written and read together.
_ROWS = 65_536


class ReleaseInfo(BaseModel):
    """manifest.json: what a release is made of and what it expects.

    Attributes:
        format: version of this layout.
        release_id: the release; `run_id`, and a revision number where items were erased.
        run_id: the run that trained both towers.
        as_of: last day whose deliveries are in.
        dim: dimension of the embeddings.
        groups: the genre groups that index the music tower's `genre_group`.
        visual_extractor: the only features the video tower may be given.
        audio_extractor: the only features the music tower may be given.
        visual: how a new video's features are made, `features.VisualConfig` as JSON. A later
            version that cannot read it still serves the release, from features.
        audio: how a new track's features are made, `features.AudioConfig` as JSON.
        limits: what a new file may cost, `features.Limits` as JSON.
        music: number of tracks.
        videos: number of videos.
        index: kind of the index ("flat" is exact, "hnsw" is not).
        previous: release on whose axes the embeddings lie, or None for the first.
        decision: the gate's decision and who overruled it.
        inputs: versions of every table, cut-offs, settings that went in.
        packages: versions of the libraries that made the numbers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    release_id: str
    run_id: str
    as_of: str
    dim: int
    groups: tuple[str, ...]
    visual_extractor: str
    audio_extractor: str
    visual: dict[str, Any]
    audio: dict[str, Any]
    limits: dict[str, Any]
    music: int
    videos: int
    index: str
    previous: str | None
    decision: dict[str, Any]
    inputs: dict[str, Any]
    packages: dict[str, str]


def read_release_info(folder: Path) -> ReleaseInfo:
    """Read a release's manifest.

    Raises:
        ReleaseError: it is missing, damaged or of another format.
    """
    path = folder / INFO_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.get("format") != FORMAT:
            raise ReleaseError(
                f"format {document.get('format')}, this code reads {FORMAT}", where=str(path)
            )
        return ReleaseInfo.model_validate(document)
    except (OSError, ValueError, AttributeError, ValidationError) as error:
        raise ReleaseError(f"not a release's manifest: {error}", where=str(path)) from error


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a JSON file whose bytes depend on the content alone."""
    text = json.dumps(document, indent=1, sort_keys=True, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def write_table(path: Path, run_id: str, texts: pa.Table, vectors: dict[str, Float32Array]) -> None:
    """Write one Parquet file of a release.

    Args:
        path: the file.
        run_id: the run whose model made the vectors; stored in the file's metadata.
        texts: columns of text or bool.
        vectors: name -> float32 [rows, D], finite; stored as fixed-size lists.

    Raises:
        ReleaseError: a vector is not finite.
    """
    fields = [
        pa.field(
            text.name, text.type if pa.types.is_boolean(text.type) else pa.string(), nullable=False
        )
        for text in texts.schema
    ]
    arrays = texts.cast(pa.schema(fields)).columns
    for name, matrix in vectors.items():
        if not np.isfinite(matrix).all():
            raise ReleaseError(f"{name} holds values that are not finite", where=str(path))
        item = pa.field("element", pa.float32(), nullable=False)
        width = pa.list_(item, matrix.shape[1])
        flat = pa.array(np.ascontiguousarray(matrix, dtype=np.float32).ravel())
        arrays.append(pa.FixedSizeListArray.from_arrays(flat, type=width))
        fields.append(pa.field(name, width, nullable=False))
    schema = pa.schema(fields, metadata={"run_id": run_id})
    pq.write_table(
        pa.Table.from_arrays(arrays, schema=schema),
        path,
        compression="zstd",
        use_dictionary=False,
        write_statistics=False,
        row_group_size=_ROWS,
    )


def read_table(path: Path, run_id: str, columns: list[str] | None = None) -> pa.Table:
    """Read one Parquet file of a release.

    Args:
        path: the file.
        run_id: the run that the manifest names.
        columns: to be read; None: all.

    Raises:
        ReleaseError: the file is missing or damaged, or its vectors are of another run's model.
    """
    with _opened(path, run_id) as file:
        return file.read(columns)


def read_vectors(path: Path, run_id: str, column: str) -> Float32Array:
    """Read the vectors of one Parquet file of a release, a slice at a time into the one array.

    Args:
        path: the file.
        run_id: the run that the manifest names.
        column: of fixed-size lists.

    Returns:
        float32 [rows, D].

    Raises:
        ReleaseError: the file is missing or damaged, or its vectors are of another run's model.
    """
    with _opened(path, run_id) as file:
        dim = file.schema_arrow.field(column).type.list_size
        vectors = np.empty((file.metadata.num_rows, dim), dtype=np.float32)
        start = 0
        for batch in file.iter_batches(_ROWS, columns=[column]):
            flat = batch.column(0).flatten().to_numpy(zero_copy_only=False)
            vectors[start : start + len(batch)] = flat.reshape(-1, dim)
            start += len(batch)
        return vectors


@contextmanager
def _opened(path: Path, run_id: str) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path) as file:
            found = (file.schema_arrow.metadata or {}).get(b"run_id", b"").decode()
            if found != run_id:
                raise ReleaseError(
                    f"holds embeddings of {found or 'no run'}, the manifest is of {run_id}",
                    where=str(path),
                )
            yield file
    except (OSError, pa.ArrowException) as error:
        raise ReleaseError(f"cannot be read: {error}", where=str(path)) from error
