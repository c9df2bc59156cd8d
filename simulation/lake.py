"""A lake of any size without media: catalogue and features at array level, picks that follow taste.

Whatever works on tables (confounders, dataset, training, publishing, upkeep) can be run over it
with a million items, or a few hundred in a second.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from models.arrays import Float32Array
from pipeline.extraction.clips import Modality, extractors
from pipeline.lake.schemas import TABLES
from pipeline.lake.tables import Lake
from pipeline.settings.load import Settings

GENRES = ("pop", "rock", "electronic", "hiphop", "classical", "folk")
LATENT = 8
TABLE_OF = {modality: f"{modality}_features" for modality in Modality}


@dataclass(frozen=True)
class Night:
    """What one day delivers.

    Attributes:
        day: the landing day.
        videos: uploaders' videos, each with a pick.
        music: tracks new on this day; the first night needs some.
        uploaders: uploaders that the videos are by.
        segments: segments of professional music videos.
        first: number of the first video and segment, so that nights do not share ids.
        first_music: number of the first track; the nights before delivered those below it.
    """

    day: dt.date
    videos: int
    music: int
    uploaders: int = 20
    segments: int = 0
    first: int = 0
    first_music: int = 0


@dataclass(frozen=True)
class Taste:
    """What pictures and sound have in common: a latent vector a track, and how each is seen.

    Attributes:
        tracks: float32 [M, LATENT], of every track delivered so far.
        visual: float32 [LATENT, Dv].
        audio: float32 [LATENT, Da].
    """

    tracks: Float32Array
    visual: Float32Array
    audio: Float32Array

    @classmethod
    def make(cls, tracks: int, visual_dim: int, audio_dim: int, seed: int) -> Taste:
        """Draw the latents of `tracks` tracks and the two mixing matrices."""
        rng = np.random.default_rng(seed)
        parts = [(tracks, LATENT), (LATENT, visual_dim), (LATENT, audio_dim)]
        return cls(*(rng.standard_normal(shape, dtype=np.float32) for shape in parts))


def deliver(settings: Settings, lake: Lake, night: Night, taste: Taste, seed: int = 0) -> None:
    """Write one night's rows of catalogue and features, as ingest and extract would have.

    Raises:
        SchemaError: a row breaks the field table.
    """
    rng = np.random.default_rng([seed, night.first, night.videos])
    start = dt.datetime.combine(night.day, dt.time(), dt.UTC)
    picks = rng.integers(0, night.first_music + night.music, night.videos)
    videos = _names("v", night.first, night.videos)
    catalogue = pl.DataFrame(
        {
            "video_id": videos,
            "uploader_id": _named("u", rng.integers(0, night.uploaders, night.videos)),
            "music_id": _named("m", picks),
            "uploaded_at": [start] * night.videos,
        }
    ).with_columns(
        pl.col("uploaded_at")
        + pl.duration(
            microseconds=pl.int_range(pl.len()) * (86_400_000_000 // max(night.videos, 1))
        ),
        source=pl.lit("ugc"),
        width=pl.lit(320, pl.Int32),
        height=pl.lit(180, pl.Int32),
        fps=pl.lit(25.0),
    )
    _replace(lake, "videos", _described(catalogue, "video_id", night))
    tracks = np.arange(night.first_music, night.first_music + night.music)
    music = pl.DataFrame({"music_id": _named("m", tracks)}).with_columns(
        genre=pl.Series([GENRES[t % len(GENRES)] for t in tracks], dtype=pl.String),
        genre_group=pl.Series([GENRES[t % len(GENRES)] for t in tracks], dtype=pl.String),
        title=pl.col("music_id"),
        artist=pl.lit("somebody"),
    )
    _replace(lake, "music", _described(music, "music_id", night))
    _add_features(
        settings,
        lake,
        night,
        Modality.VISUAL,
        videos,
        _seen(rng, taste.tracks[picks] @ taste.visual),
    )
    heard = _seen(rng, taste.tracks[tracks] @ taste.audio)
    _add_features(settings, lake, night, Modality.AUDIO, music["music_id"].to_list(), heard)
    if night.segments:
        _deliver_segments(settings, lake, night, taste, rng)


def _deliver_segments(
    settings: Settings, lake: Lake, night: Night, taste: Taste, rng: np.random.Generator
) -> None:
    names = _names("p", night.first, night.segments)
    segments = pl.DataFrame(
        {"segment_id": [f"{name}#0" for name in names], "video_id": names}
    ).with_columns(
        content_hash=pl.Series(_hashes(names)),
        segment=pl.lit(0, pl.Int32),
        start=pl.lit(0.0),
        end=pl.lit(10.0),
        dt=pl.lit(night.day),
    )
    _replace(lake, "segments", segments)
    latent = taste.tracks[rng.integers(0, len(taste.tracks), night.segments)]
    mixed = {Modality.VISUAL: taste.visual, Modality.AUDIO: taste.audio}
    for modality, matrix in mixed.items():
        _add_features(
            settings, lake, night, modality, names, _seen(rng, latent @ matrix), segment=0
        )


def _described(rows: pl.DataFrame, key: str, night: Night) -> pl.DataFrame:
    return rows.with_columns(
        content_hash=pl.Series(_hashes(rows[key].to_list()), dtype=pl.String),
        media_path=pl.lit("media/none"),
        duration=pl.lit(8.0),
        dt=pl.lit(night.day),
        ingested_at=pl.lit(dt.datetime.combine(night.day, dt.time(12), dt.UTC)).cast(
            pl.Datetime("us", "UTC")
        ),
    )


def _add_features(
    settings: Settings,
    lake: Lake,
    night: Night,
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
        dt=pl.lit(night.day),
    )
    if modality is Modality.VISUAL:
        rows = rows.with_columns(frames=pl.lit(16, pl.Int32))
    lake.add(TABLE_OF[modality], rows)


def _replace(lake: Lake, table: str, rows: pl.DataFrame) -> None:
    frame = rows.select(TABLES[table].columns).cast(TABLES[table].empty.schema)
    for (day,), part in frame.group_by("dt"):
        lake.replace(table, part, {"dt": day})


def _seen(rng: np.random.Generator, clear: Float32Array) -> Float32Array:
    return clear + 0.3 * rng.standard_normal(clear.shape, dtype=np.float32)


def _names(letter: str, first: int, count: int) -> list[str]:
    return _named(letter, np.arange(first, first + count))


def _named(letter: str, numbers: npt.NDArray[np.int64]) -> list[str]:
    return [f"{letter}{number:08d}" for number in numbers.tolist()]


def _hashes(names: list[str]) -> list[str]:
    return [hashlib.sha256(name.encode()).hexdigest() for name in names]
