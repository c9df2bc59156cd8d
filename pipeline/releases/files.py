"""Reads and writes the files of a release. Imports neither the lake nor training code.

music.parquet and video.parquet are plain Parquet: embeddings are fixed-size lists of non-null
float32, which polars, pandas, duckdb and Spark can read. Every file with embeddings or weights
names the run that trained it; files of different runs are never read together.
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

# Rows that are written and read at a time.
_ROW_GROUP = 65_536


class ReleaseInfo(BaseModel):
    """Content of manifest.json: what a release contains, and which features it reads.

    Attributes:
        format: version of the release's layout, FORMAT.
        release_id: the release: the run id, with a revision number if items were erased.
        run_id: the run that trained both towers.
        as_of: the last landing day whose rows are included, ISO.
        dim: dimension D of the embeddings.
        groups: names of the genre groups, in the order of the music tower's input `genre_group`.
        visual_extractor: extractor of the features that the video tower reads.
        audio_extractor: extractor of the features that the music tower reads.
        visual: settings to extract a new video's features, `features.VisualConfig` as JSON. A
            later version that cannot read them still serves the release from given features.
        audio: settings to extract a new track's features, `features.AudioConfig` as JSON.
        limits: limits for decoding a new file, `features.Limits` as JSON.
        music: number of tracks.
        videos: number of videos.
        index: kind of the index, see `pipeline.releases.index.IndexKind`.
        previous: the release whose axes the embeddings are rotated onto; None for the first.
        decision: the gate's decision, with `force` if a person forced the publication.
        inputs: provenance of the dataset: table versions, cut-offs, extractors and settings.
        packages: versions of the libraries that affect the numbers.
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
    """Read manifest.json of a release.

    Args:
        folder: folder of the release.

    Raises:
        ReleaseError: the file is missing, damaged or of another format.
    """
    path = folder / INFO_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.get("format") != FORMAT:
            raise ReleaseError(
                f"the release has format {document.get('format')}, this version reads {FORMAT}",
                where=str(path),
            )
        return ReleaseInfo.model_validate(document)
    except (OSError, ValueError, AttributeError, ValidationError) as error:
        raise ReleaseError(f"not a valid release: {error}", where=str(path)) from error


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a JSON file; equal content gives equal bytes."""
    text = json.dumps(document, indent=1, sort_keys=True, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def write_table(path: Path, run_id: str, texts: pa.Table, vectors: dict[str, Float32Array]) -> None:
    """Write one Parquet file of a release.

    Args:
        path: the file.
        run_id: the run whose model made the vectors; stored in the file's metadata.
        texts: columns of strings or bools, without nulls.
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
            raise ReleaseError(f"column {name} has NaN or infinite values", where=str(path))
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
        row_group_size=_ROW_GROUP,
    )


def read_table(path: Path, run_id: str, columns: list[str] | None = None) -> pa.Table:
    """Read one Parquet file of a release.

    Args:
        path: the file.
        run_id: the run of the release, from its `ReleaseInfo`.
        columns: columns to read; None for all.

    Raises:
        ReleaseError: the file is missing or damaged, or is of another run.
    """
    with _open_table(path, run_id) as file:
        return file.read(columns)


def read_vectors(path: Path, run_id: str, column: str) -> Float32Array:
    """Read a column of vectors from a Parquet file of a release, batch by batch into one array.

    Args:
        path: the file.
        run_id: the run of the release, from its `ReleaseInfo`.
        column: a column of fixed-size lists.

    Returns:
        float32 [rows, D].

    Raises:
        ReleaseError: the file is missing or damaged, or is of another run.
    """
    with _open_table(path, run_id) as file:
        dim = file.schema_arrow.field(column).type.list_size
        vectors = np.empty((file.metadata.num_rows, dim), dtype=np.float32)
        start = 0
        for batch in file.iter_batches(_ROW_GROUP, columns=[column]):
            flat = batch.column(0).flatten().to_numpy(zero_copy_only=False)
            vectors[start : start + len(batch)] = flat.reshape(-1, dim)
            start += len(batch)
        return vectors


@contextmanager
def _open_table(path: Path, run_id: str) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path) as file:
            found = (file.schema_arrow.metadata or {}).get(b"run_id", b"").decode()
            if found != run_id:
                raise ReleaseError(
                    f"embeddings of {found or 'no run'}, but the release is of {run_id}",
                    where=str(path),
                )
            yield file
    except (OSError, pa.ArrowException) as error:
        raise ReleaseError(f"cannot read the table: {error}", where=str(path)) from error
