"""Fills a lake of any size without media files: catalogue and features that share a latent.

All steps that work on tables (confounders, dataset, training, publishing, upkeep) can run on it,
with a few hundred items in a second or with a million.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass

import numpy as np
import polars as pl

from models.arrays import Float32Array, Int64Array
from pipeline.extraction.clips import Modality, extractors
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings

GENRES = ("pop", "rock", "electronic", "hiphop", "classical", "folk")
LATENT = 8
TABLE_OF = {modality: f"{modality}_features" for modality in Modality}


@dataclass(frozen=True)
class SimulatedDay:
    """The sizes of one landing day.

    Attributes:
        day: the landing day.
        videos: number of uploaders' videos, each with a pick.
        music: number of new tracks; at least one on the first day.
        uploaders: number of uploaders.
        segments: number of segments of professional music videos.
        first: number of the first video and segment; days must not share ids.
        first_music: number of the first new track; earlier days have the tracks below it.
    """

    day: dt.date
    videos: int
    music: int
    uploaders: int = 20
    segments: int = 0
    first: int = 0
    first_music: int = 0


@dataclass(frozen=True)
class Latents:
    """Latent vectors of the tracks, and the matrices that turn them into features.

    Attributes:
        tracks: float32 [M, LATENT], latent vector of each track delivered so far.
        visual: float32 [LATENT, Dv], latent vector to visual features.
        audio: float32 [LATENT, Da], latent vector to audio features.
    """

    tracks: Float32Array
    visual: Float32Array
    audio: Float32Array

    @classmethod
    def make(cls, tracks: int, visual_dim: int, audio_dim: int, seed: int) -> Latents:
        """Draw the latent vectors of `tracks` tracks and both matrices."""
        rng = np.random.default_rng(seed)
        parts = [(tracks, LATENT), (LATENT, visual_dim), (LATENT, audio_dim)]
        return cls(*(rng.standard_normal(shape, dtype=np.float32) for shape in parts))


def write_simulated_day(
    settings: Settings, lake: Lake, day: SimulatedDay, latents: Latents, seed: int = 0
) -> None:
    """Write the rows of one day to catalogue and features, as ingest and extract would.

    Raises:
        SchemaError: a row breaks the field table.
    """
    rng = np.random.default_rng([seed, day.first, day.videos])
    start = dt.datetime.combine(day.day, dt.time(), dt.UTC)
    picks = rng.integers(0, day.first_music + day.music, day.videos)
    videos = _numbered_ids("v", day.first, day.videos)
    catalogue = pl.DataFrame(
        {
            "video_id": videos,
            "uploader_id": _ids("u", rng.integers(0, day.uploaders, day.videos)),
            "music_id": _ids("m", picks),
            "uploaded_at": [start] * day.videos,
        }
    ).with_columns(
        pl.col("uploaded_at")
        + pl.duration(microseconds=pl.int_range(pl.len()) * (86_400_000_000 // max(day.videos, 1))),
        source=pl.lit("ugc"),
        width=pl.lit(320, pl.Int32),
        height=pl.lit(180, pl.Int32),
        fps=pl.lit(25.0),
    )
    _replace(lake, "videos", _with_common_columns(catalogue, "video_id", day))
    tracks = np.arange(day.first_music, day.first_music + day.music)
    music = pl.DataFrame({"music_id": _ids("m", tracks)}).with_columns(
        genre=pl.Series([GENRES[t % len(GENRES)] for t in tracks], dtype=pl.String),
        genre_group=pl.Series([GENRES[t % len(GENRES)] for t in tracks], dtype=pl.String),
        title=pl.col("music_id"),
        artist=pl.lit("somebody"),
    )
    _replace(lake, "music", _with_common_columns(music, "music_id", day))
    _add_features(
        settings,
        lake,
        day,
        Modality.VISUAL,
        videos,
        _with_noise(rng, latents.tracks[picks] @ latents.visual),
    )
    sound = _with_noise(rng, latents.tracks[tracks] @ latents.audio)
    _add_features(settings, lake, day, Modality.AUDIO, music["music_id"].to_list(), sound)
    if day.segments:
        _write_segments(settings, lake, day, latents, rng)


def _write_segments(
    settings: Settings, lake: Lake, day: SimulatedDay, latents: Latents, rng: np.random.Generator
) -> None:
    names = _numbered_ids("p", day.first, day.segments)
    segments = pl.DataFrame(
        {"segment_id": [f"{name}#0" for name in names], "video_id": names}
    ).with_columns(
        content_hash=pl.Series(_hashes(names)),
        segment=pl.lit(0, pl.Int32),
        start=pl.lit(0.0),
        end=pl.lit(10.0),
        dt=pl.lit(day.day),
    )
    _replace(lake, "segments", segments)
    latent = latents.tracks[rng.integers(0, len(latents.tracks), day.segments)]
    mixed = {Modality.VISUAL: latents.visual, Modality.AUDIO: latents.audio}
    for modality, matrix in mixed.items():
        _add_features(
            settings, lake, day, modality, names, _with_noise(rng, latent @ matrix), segment=0
        )


def _with_common_columns(rows: pl.DataFrame, key: str, day: SimulatedDay) -> pl.DataFrame:
    return rows.with_columns(
        content_hash=pl.Series(_hashes(rows[key].to_list()), dtype=pl.String),
        media_path=pl.lit("media/none"),
        duration=pl.lit(8.0),
        dt=pl.lit(day.day),
        ingested_at=pl.lit(dt.datetime.combine(day.day, dt.time(12), dt.UTC)).cast(
            pl.Datetime("us", "UTC")
        ),
    )


def _add_features(
    settings: Settings,
    lake: Lake,
    day: SimulatedDay,
    modality: Modality,
    names: list[str],
    vectors: Float32Array,
    segment: int = -1,
) -> None:
    rows = pl.DataFrame({"content_hash": pl.Series(_hashes(names), dtype=pl.String)}).with_columns(
        segment=pl.lit(segment, pl.Int32),
        extractor=pl.lit(extractors(settings)[modality]),
        embedding=pl.Series(vectors, dtype=pl.Array(pl.Float32, vectors.shape[1])).cast(
            pl.List(pl.Float32)
        ),
        decoder=pl.lit("pyav"),
        dt=pl.lit(day.day),
    )
    if modality is Modality.VISUAL:
        rows = rows.with_columns(frames=pl.lit(16, pl.Int32))
    lake.add(TABLE_OF[modality], rows)


def _replace(lake: Lake, table: str, rows: pl.DataFrame) -> None:
    frame = rows.select(TABLES[table].columns).cast(TABLES[table].empty.schema)
    for (dt_day,), part in frame.group_by("dt"):
        lake.replace(table, part, {"dt": dt_day})


def _with_noise(rng: np.random.Generator, features: Float32Array) -> Float32Array:
    return features + 0.3 * rng.standard_normal(features.shape, dtype=np.float32)


def _numbered_ids(letter: str, first: int, count: int) -> list[str]:
    return _ids(letter, np.arange(first, first + count))


def _ids(letter: str, numbers: Int64Array) -> list[str]:
    return [f"{letter}{number:08d}" for number in numbers.tolist()]


def _hashes(names: list[str]) -> list[str]:
    return [hashlib.sha256(name.encode()).hexdigest() for name in names]
