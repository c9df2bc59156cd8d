"""Tables -> the arrays of one training run, split by time, with everything that went in.

The folder runs/<run_id>/dataset holds arrays.safetensors, videos.parquet, music.parquet and
meta.json. The run_id is the day and a hash over all of it: the same inputs make the same run.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.compute as pc
from safetensors.numpy import load_file, save_file

from features.arrays import AnyArray, BoolArray, Float32Array
from models.data import Picks, TrainingData
from models.preference import fit_concentration, point_in_time_counts, posterior_mean
from pipeline.context import Context
from pipeline.errors import NotEnoughDataError
from pipeline.extraction.clips import KINDS, Kind, extractors
from pipeline.lake import catalog
from pipeline.lake.tables import Lake
from pipeline.storage.store import Store
from pipeline.training.confounders import group_index, picks_until, population_prior

log = logging.getLogger(__name__)

INPUT_TABLES = ("videos", "music", "segments", "visual_features", "audio_features")
VIDEOS = ("video_id", "uploader_id", "content_hash", "dt", "media_path")
MUSIC = ("music_id", "genre", "genre_group", "title", "artist", "content_hash", "dt")


@dataclass(frozen=True)
class Dataset:
    """What one run trains on and is judged by.

    Attributes:
        run_id: "<as_of>-<hash>": day and hash of everything that went in.
        as_of: the last day whose deliveries are in.
        training: arrays to train on and to select by (train and validation picks).
        test: the newest picks, held out.
        videos: row i describes training.video[i]: the columns VIDEOS.
        music: row i describes training.music[i]: the columns MUSIC, and cold: it has no training
            pick, so that its sound alone speaks for it.
        groups: names of the genre groups that index preferences; the last is "other".
        visual_extractor: extractor of training.video and training.segment_video.
        audio_extractor: extractor of training.music and training.segment_music.
        inputs: versions of every table, cut-offs, row counts, hash of the settings.
    """

    run_id: str
    as_of: dt.date
    training: TrainingData
    test: Picks
    videos: pl.DataFrame
    music: pl.DataFrame
    groups: tuple[str, ...]
    visual_extractor: str
    audio_extractor: str
    inputs: dict[str, object]


@dataclass(frozen=True)
class DatasetSummary:
    """Row counts of a dataset; `unchanged` when the same inputs had made it before."""

    run_id: str
    unchanged: bool
    videos: int
    music: int
    segments: int
    train: int
    validation: int
    test: int


def build(context: Context, as_of: dt.date) -> DatasetSummary:
    """Write the dataset of everything delivered up to the end of `as_of`.

    Raises:
        NotEnoughDataError: no pick has features of both its video and its track, or none is left to
            train on.
    """
    settings, lake, store = context.settings, context.lake, context.store
    versions = {table: lake.version(table) for table in INPUT_TABLES}
    names = extractors(settings)
    groups = settings.genres.names
    tracks = lake.collect(catalog.music(lake, as_of).select(MUSIC).sort("music_id"), "music")
    music, music_features = _with_features(lake, tracks, "audio", names["audio"])
    uploads = catalog.videos(lake, as_of).filter(pl.col("source") == "ugc").select(VIDEOS)
    videos, video_features = _with_features(
        lake, lake.collect(uploads.sort("video_id"), "videos"), "visual", names["visual"]
    )
    picks = (
        picks_until(lake, as_of, groups)
        .join(videos.select("video_id", video="row"), on="video_id")
        .join(music.select("music_id", music="row"), on="music_id")
        .sort("uploaded_at", "video_id")
    )
    if picks.is_empty():
        raise NotEnoughDataError(
            f"no pick has features by {names['visual']} and {names['audio']}",
            where=as_of.isoformat(),
        )
    cut = _cut_offs(
        picks["uploaded_at"], settings.split.validation_share, settings.split.test_share
    )
    dims: dict[Kind, int] = {"visual": video_features.shape[1], "audio": music_features.shape[1]}
    arrays = {
        "video": video_features,
        "music": music_features,
        "genre_group": music.select(group_index(groups))["genre_group"].to_numpy(),
        **_segment_features(lake, as_of, names, dims),
        **_pick_arrays(picks, cut, len(groups)),
    }
    if not (arrays["pick_part"] == 0).any():
        raise NotEnoughDataError(
            f"of {len(picks)} picks none lies before those to validate and to test on, from "
            f"{cut[0].isoformat()}: training needs picks of different times",
            where=as_of.isoformat(),
        )
    trained = np.zeros(len(music), dtype=np.bool_)
    trained[arrays["pick_music"][arrays["pick_part"] == 0]] = True
    music = music.with_columns(cold=pl.Series(~trained)).drop("row")
    videos = videos.drop("row")
    inputs: dict[str, object] = {
        "cut_offs": [moment.isoformat() for moment in cut],
        "extractors": names,
        "groups": list(groups),
        "model": settings.model.model_dump(mode="json"),
        "gate": settings.gate.model_dump(mode="json"),
        "seed": settings.seed,
        "package": version("debcm-pipeline"),
    }
    run_id = f"{as_of.isoformat()}-{_hash(arrays, [videos, music], inputs)[:10]}"
    inputs["tables"] = versions
    name = f"runs/{run_id}/dataset"
    unchanged = store.exists(name)
    if not unchanged:
        with store.writing(name) as folder:
            save_file(arrays, folder / "arrays.safetensors")
            videos.write_parquet(folder / "videos.parquet")
            music.write_parquet(folder / "music.parquet")
            meta = {"as_of": as_of.isoformat(), "inputs": inputs}
            (folder / "meta.json").write_text(json.dumps(meta, indent=1, sort_keys=True))
    part = arrays["pick_part"]
    summary = DatasetSummary(
        run_id,
        unchanged,
        videos=len(videos),
        music=len(music),
        segments=len(arrays["segment_video"]),
        train=int((part == 0).sum()),
        validation=int((part == 1).sum()),
        test=int((part == 2).sum()),
    )
    log.info("dataset: %s", summary)
    return summary


def load_dataset(store: Store, run_id: str) -> Dataset:
    """Read a dataset back.

    Raises:
        ProvenanceError: there is none of that name, or it is incomplete.
    """
    folder = store.fetch(f"runs/{run_id}/dataset")
    arrays = load_file(folder / "arrays.safetensors")
    meta = json.loads((folder / "meta.json").read_text())
    inputs = meta["inputs"]
    parts = [_picks(arrays, part) for part in range(3)]
    training = TrainingData(
        video=arrays["video"],
        music=arrays["music"],
        genre_group=arrays["genre_group"],
        n_groups=len(inputs["groups"]),
        train=parts[0],
        validation=parts[1],
        segment_video=arrays["segment_video"],
        segment_music=arrays["segment_music"],
        population_preference=arrays["population_preference"],
    )
    return Dataset(
        run_id=run_id,
        as_of=dt.date.fromisoformat(meta["as_of"]),
        training=training,
        test=parts[2],
        videos=pl.read_parquet(folder / "videos.parquet"),
        music=pl.read_parquet(folder / "music.parquet"),
        groups=tuple(inputs["groups"]),
        visual_extractor=inputs["extractors"]["visual"],
        audio_extractor=inputs["extractors"]["audio"],
        inputs=inputs,
    )


def _with_features(
    lake: Lake, rows: pl.DataFrame, kind: Kind, extractor: str
) -> tuple[pl.DataFrame, Float32Array]:
    """Catalogue rows that have features, numbered in column row, and those features."""
    whole = rows.select("content_hash", segment=pl.lit(-1, pl.Int32))
    features, found = _features(lake, kind, extractor, whole)
    kept = rows.filter(pl.Series(found)).with_row_index("row")
    return kept.with_columns(pl.col("row").cast(pl.Int64)), _rows(features, found)


def _segment_features(
    lake: Lake, as_of: dt.date, names: Mapping[Kind, str], dims: Mapping[Kind, int]
) -> dict[str, Float32Array]:
    """Pictures and sound of the segments that have both, in order of their id."""
    rows = lake.collect(catalog.segments(lake, as_of).sort("segment_id"), "segments")
    features, found = zip(
        *(_features(lake, kind, names[kind], rows, dims[kind]) for kind in KINDS), strict=True
    )
    both = np.logical_and(*found)
    return {
        "segment_video": _rows(features[0], both),
        "segment_music": _rows(features[1], both),
    }


def _features(
    lake: Lake, kind: Kind, extractor: str, rows: pl.DataFrame, dim: int = 1
) -> tuple[Float32Array, BoolArray]:
    """Features by content_hash and segment, read a slice at a time into the one array.

    Args:
        lake: the tables.
        kind: of the features.
        extractor: that made them.
        rows: content_hash and segment of the features wanted.
        dim: width of the array where there are no features at all.

    Returns:
        float32 [len(rows), D], and bool [len(rows)]: which rows have features.
    """
    wanted = rows.select("content_hash", "segment").with_row_index("row")
    found = np.zeros(len(rows), dtype=np.bool_)
    features = np.zeros((len(rows), dim), dtype=np.float32)
    columns = ["content_hash", "segment", "embedding"]
    for part in lake.slices(f"{kind}_features", columns, pc.field("extractor") == extractor):
        placed = part.join(wanted, on=["content_hash", "segment"])
        if placed.is_empty():
            continue
        if not found.any():
            features = np.zeros((len(rows), len(placed["embedding"][0])), dtype=np.float32)
        at = placed["row"].to_numpy()
        features[at] = placed["embedding"].list.to_array(features.shape[1]).to_numpy()
        found[at] = True
    return features, found


def _rows(features: Float32Array, wanted: BoolArray) -> Float32Array:
    """The rows wanted; no second array where that is all of them."""
    return features if wanted.all() else features[wanted]


def _cut_offs(
    uploaded_at: pl.Series, validation_share: float, test_share: float
) -> tuple[dt.datetime, dt.datetime]:
    """First moments of validation and of test, by share of the picks in order of time."""
    n = len(uploaded_at)
    first_validation = int(n * (1 - validation_share - test_share))
    first_test = int(n * (1 - test_share))
    return (
        uploaded_at[min(max(first_validation, 1), n - 1)],
        uploaded_at[min(max(first_test, 1), n - 1)],
    )


def _pick_arrays(
    picks: pl.DataFrame, cut: tuple[dt.datetime, dt.datetime], n_groups: int
) -> dict[str, AnyArray]:
    """The picks as arrays; pick_part is 0, 1, 2 for train, validation, test.

    A preference sees only uploads strictly earlier than its own row, and the prior that
    smooths it only the training rows.
    """
    uploader = picks["uploader_id"].rank("dense").cast(pl.Int64).to_numpy() - 1
    time = picks["uploaded_at"].dt.epoch("us").to_numpy() / 1e6
    group = picks["group"].to_numpy()
    part = (
        picks.select(
            (pl.col("uploaded_at") >= cut[0]).cast(pl.Int64)
            + (pl.col("uploaded_at") >= cut[1]).cast(pl.Int64)
        )
        .to_series()
        .to_numpy()
    )
    trained = part == 0
    prior = population_prior(np.bincount(group[trained], minlength=n_groups))
    totals = np.zeros((uploader.max() + 1, n_groups), dtype=np.int64)
    np.add.at(totals, (uploader[trained], group[trained]), 1)
    concentration = fit_concentration(totals, prior)
    counts = point_in_time_counts(uploader, time, group, n_groups)
    return {
        "pick_video": picks["video"].to_numpy(),
        "pick_music": picks["music"].to_numpy(),
        "pick_uploader": uploader,
        "pick_time": time,
        "pick_part": part,
        "pick_preference": posterior_mean(counts, prior, concentration).astype(np.float32),
        "population_preference": prior.astype(np.float32),
    }


def _picks(arrays: Mapping[str, npt.NDArray[np.generic]], part: int) -> Picks:
    rows = arrays["pick_part"] == part
    return Picks(
        **{
            name: np.ascontiguousarray(arrays[f"pick_{name}"][rows])
            for name in ("video", "music", "uploader", "time", "preference")
        }
    )


def _hash(
    arrays: Mapping[str, AnyArray], frames: list[pl.DataFrame], inputs: Mapping[str, object]
) -> str:
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(f"{name}{arrays[name].shape}{arrays[name].dtype}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    for frame in frames:
        # In slices: the text of a whole catalogue is larger than the catalogue.
        for rows in frame.iter_slices(100_000):
            digest.update(rows.write_json().encode())
    return digest.hexdigest()
