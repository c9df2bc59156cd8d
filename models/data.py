"""Holds the arrays that a model is trained on, and checks them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields

import numpy as np

from models.arrays import Float32Array, Float64Array, Int64Array


def _check(
    where: str, name: str, array: object, dtype: type, shape: tuple[int | None, ...]
) -> None:
    """Raise unless `array` has the dtype and shape (None: any length)."""
    if not isinstance(array, np.ndarray) or array.dtype != np.dtype(dtype):
        got = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise TypeError(f"{where}.{name} must be {np.dtype(dtype)}, got {got}: convert it")
    wrong = any(want is not None and want != have for want, have in zip(shape, array.shape))  # noqa: B905
    if array.ndim != len(shape) or wrong:
        wanted = tuple("any" if want is None else want for want in shape)
        raise ValueError(f"{where}.{name} must have shape {wanted}, got {array.shape}")


def _check_rows(where: str, name: str, rows: Int64Array, count: int) -> None:
    """Raise unless every row number is in 0..count-1."""
    bad = np.flatnonzero((rows < 0) | (rows >= count))
    if len(bad):
        raise ValueError(
            f"{where}.{name}[{bad[0]}] is {rows[bad[0]]}: it must be in 0..{count - 1}"
        )


@dataclass(frozen=True)
class Picks:
    """Observed choices: P uploads with the tracks that their uploaders picked.

    Attributes:
        video: int64[P], row of `TrainingData.video`.
        music: int64[P], row of `TrainingData.music`.
        uploader: int64[P], any numbering of uploaders from 0.
        time: float64[P], seconds of the UTC epoch.
        preference: float32[P, G], the uploader's genre preference, estimated from uploads
            strictly earlier than the row (`models.preference`); rows sum to one.
    """

    video: Int64Array
    music: Int64Array
    uploader: Int64Array
    time: Float64Array
    preference: Float32Array

    def __post_init__(self) -> None:
        count = len(self.video)
        for name in ("video", "music", "uploader"):
            _check("Picks", name, getattr(self, name), np.int64, (count,))
        _check("Picks", "time", self.time, np.float64, (count,))
        _check("Picks", "preference", self.preference, np.float32, (count, None))
        bad = np.flatnonzero(~np.isfinite(self.time))
        if len(bad):
            raise ValueError(f"Picks.time[{bad[0]}] is {self.time[bad[0]]}: it must be finite")
        if not np.isfinite(self.preference).all() or (self.preference < 0).any():
            raise ValueError("Picks.preference must be finite and 0 or more in every row")
        if count and self.uploader.min() < 0:
            raise ValueError("Picks.uploader must be 0 or more in every row")

    def __len__(self) -> int:
        return len(self.video)

    def __repr__(self) -> str:
        return f"Picks({len(self)} rows, {self.preference.shape[1]} genre groups)"


@dataclass(frozen=True)
class TrainingData:
    """Features, picks and PGC pairs. Features are raw; the encoders standardise them.

    Attributes:
        video: float32[N, Dv], one row per UGC video; may hold NaN.
        music: float32[M, Dm], one row per track; may hold NaN.
        genre_group: int64[M], in 0..n_groups-1.
        n_groups: number of genre groups G.
        train: picks to train on.
        validation: later picks, to select a model by; may be empty.
        segment_video: float32[S, Dv], video features of PGC segments; S may be 0.
        segment_music: float32[S, Dm], music features of the same segments.
        population_preference: float32[G], the prior mean of preferences; all positive, sums to one.
    """

    video: Float32Array
    music: Float32Array
    genre_group: Int64Array
    n_groups: int
    train: Picks
    validation: Picks
    segment_video: Float32Array
    segment_music: Float32Array
    population_preference: Float32Array

    def __post_init__(self) -> None:
        where = "TrainingData"
        _check(where, "video", self.video, np.float32, (None, None))
        _check(where, "music", self.music, np.float32, (None, None))
        tracks, groups = len(self.music), self.n_groups
        _check(where, "genre_group", self.genre_group, np.int64, (tracks,))
        _check_rows(where, "genre_group", self.genre_group, groups)
        segments = len(self.segment_video)
        width = self.video.shape[1]
        _check(where, "segment_video", self.segment_video, np.float32, (segments, width))
        width = self.music.shape[1]
        _check(where, "segment_music", self.segment_music, np.float32, (segments, width))
        _check(where, "population_preference", self.population_preference, np.float32, (groups,))
        if not (self.population_preference > 0).all():
            raise ValueError("TrainingData.population_preference must be positive in every group")
        for name, picks in (("train", self.train), ("validation", self.validation)):
            _check_rows(f"{where}.{name}", "video", picks.video, len(self.video))
            _check_rows(f"{where}.{name}", "music", picks.music, tracks)
            _check(f"{where}.{name}", "preference", picks.preference, np.float32, (None, groups))
        if not len(self.train) or not tracks:
            raise ValueError("TrainingData needs at least one track and one pick to train on")

    def __repr__(self) -> str:
        return (
            f"TrainingData(video{list(self.video.shape)}, music{list(self.music.shape)}, "
            f"{len(self.train)} + {len(self.validation)} picks, {len(self.segment_video)} segments)"
        )

    def digest(self) -> str:
        """Return the sha256 of every array, as 64 hex digits."""
        hasher = hashlib.sha256(str(self.n_groups).encode())
        for owner in (self, self.train, self.validation):
            for field in fields(owner):
                value = getattr(owner, field.name)
                if isinstance(value, np.ndarray):
                    hasher.update(f"{field.name}{value.shape}".encode())
                    hasher.update(np.ascontiguousarray(value).data)
        return hasher.hexdigest()
