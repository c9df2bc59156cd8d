"""Builds the dataset of a run from the tables: arrays split by time, and their provenance.

The folder runs/<run_id>/dataset holds arrays.safetensors, videos.parquet, music.parquet and
meta.json. The run_id is the day and a hash of the arrays, rows and settings: equal inputs give
the same run.
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
from models.tensor_files import mode_by_umask
from pipeline.context import Context
from pipeline.errors import NotEnoughDataError
from pipeline.extraction.clips import MODALITIES, Modality, extractors
from pipeline.lake import catalog
from pipeline.lake.codes import Source
from pipeline.lake.tables import Lake
from pipeline.storage.store import Store
from pipeline.training.confounders import group_index, picks_until, population_prior

log = logging.getLogger(__name__)

INPUT_TABLES = ("videos", "music", "segments", "visual_features", "audio_features")
VIDEOS = ("video_id", "uploader_id", "content_hash", "dt", "media_path")
MUSIC = ("music_id", "genre", "genre_group", "title", "artist", "content_hash", "dt")
# Values of pick_part.
TRAIN, VALIDATION, TEST = range(3)


@dataclass(frozen=True)
class Dataset:
    """The data that one run is trained, validated and tested on.

    Attributes:
        run_id: "<as_of>-<hash>", see the module's docstring.
        as_of: the last landing day whose rows are included.
        training: features, segments, and the train and validation picks.
        test: the newest picks, held out from training.
        videos: row i describes training.video[i]; the columns VIDEOS.
        music: row i describes training.music[i]; the columns MUSIC and the bool column cold: the
            track has no training picks, so that the model knows only its sound.
        groups: names of the genre groups that index preferences; the last is "other".
        visual_extractor: extractor of training.video and training.segment_video.
        audio_extractor: extractor of training.music and training.segment_music.
        inputs: provenance: table versions, cut-offs, extractors and settings.
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
    """Row counts of a dataset.

    Attributes:
        run_id: the run.
        unchanged: the dataset existed already, made from equal inputs.
        videos: videos with features.
        music: tracks with features.
        segments: segments with features of picture and sound.
        train: picks to train on.
        validation: picks to select the epoch by.
        test: held-out picks.
    """

    run_id: str
    unchanged: bool
    videos: int
    music: int
    segments: int
    train: int
    validation: int
    test: int


def build(context: Context, as_of: dt.date) -> DatasetSummary:
    """Write the dataset of all rows delivered up to the end of `as_of`.

    Raises:
        NotEnoughDataError: no pick has features of both its video and its track, or no pick is
            old enough to train on.
    """
    settings, lake, store = context.settings, context.lake, context.store
    versions = {table: lake.version(table) for table in INPUT_TABLES}
    names = extractors(settings)
    groups = settings.genres.names
    tracks = lake.collect(catalog.music(lake, as_of).select(MUSIC).sort("music_id"), "music")
    music, music_features = _with_features(lake, tracks, Modality.AUDIO, names)
    uploads = catalog.videos(lake, as_of).filter(pl.col("source") == Source.UGC).select(VIDEOS)
    videos, video_features = _with_features(
        lake, lake.collect(uploads.sort("video_id"), "videos"), Modality.VISUAL, names
    )
    picks = (
        picks_until(lake, as_of, groups)
        .join(videos.select("video_id", video="row"), on="video_id")
        .join(music.select("music_id", music="row"), on="music_id")
        .sort("uploaded_at", "video_id")
    )
    if picks.is_empty():
        raise NotEnoughDataError(
            f"no pick has features by both {names[Modality.VISUAL]} and {names[Modality.AUDIO]}",
            where=as_of.isoformat(),
        )
    cut_offs = _cut_offs(
        picks["uploaded_at"], settings.split.validation_share, settings.split.test_share
    )
    dims = {
        Modality.VISUAL: video_features.shape[1],
        Modality.AUDIO: music_features.shape[1],
    }
    arrays = {
        "video": video_features,
        "music": music_features,
        "genre_group": music.select(group_index(groups))["genre_group"].to_numpy(),
        **_segment_features(lake, as_of, names, dims),
        **_pick_arrays(picks, cut_offs, len(groups)),
    }
    part = arrays["pick_part"]
    if not (part == TRAIN).any():
        raise NotEnoughDataError(
            f"all {len(picks)} picks are validation or test picks (from "
            f"{cut_offs[0].isoformat()} on): training needs picks of different times",
            where=as_of.isoformat(),
        )
    trained = np.zeros(len(music), dtype=np.bool_)
    trained[arrays["pick_music"][part == TRAIN]] = True
    music = music.with_columns(cold=pl.Series(~trained)).drop("row")
    videos = videos.drop("row")
    inputs: dict[str, object] = {
        "cut_offs": [moment.isoformat() for moment in cut_offs],
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
            with mode_by_umask(folder / "arrays.safetensors") as path:
                save_file(arrays, path)
            videos.write_parquet(folder / "videos.parquet")
            music.write_parquet(folder / "music.parquet")
            meta = {"as_of": as_of.isoformat(), "inputs": inputs}
            (folder / "meta.json").write_text(json.dumps(meta, indent=1, sort_keys=True))
    summary = DatasetSummary(
        run_id,
        unchanged,
        videos=len(videos),
        music=len(music),
        segments=len(arrays["segment_video"]),
        train=int((part == TRAIN).sum()),
        validation=int((part == VALIDATION).sum()),
        test=int((part == TEST).sum()),
    )
    log.info("dataset: %s", summary)
    return summary


def load_dataset(store: Store, run_id: str) -> Dataset:
    """Read the dataset of a run.

    Raises:
        ProvenanceError: the run has no dataset, or it is incomplete.
    """
    folder = store.fetch(f"runs/{run_id}/dataset")
    arrays = load_file(folder / "arrays.safetensors")
    meta = json.loads((folder / "meta.json").read_text())
    inputs = meta["inputs"]
    training = TrainingData(
        video=arrays["video"],
        music=arrays["music"],
        genre_group=arrays["genre_group"],
        n_groups=len(inputs["groups"]),
        train=_picks(arrays, TRAIN),
        validation=_picks(arrays, VALIDATION),
        segment_video=arrays["segment_video"],
        segment_music=arrays["segment_music"],
        population_preference=arrays["population_preference"],
    )
    return Dataset(
        run_id=run_id,
        as_of=dt.date.fromisoformat(meta["as_of"]),
        training=training,
        test=_picks(arrays, TEST),
        videos=pl.read_parquet(folder / "videos.parquet"),
        music=pl.read_parquet(folder / "music.parquet"),
        groups=tuple(inputs["groups"]),
        visual_extractor=inputs["extractors"]["visual"],
        audio_extractor=inputs["extractors"]["audio"],
        inputs=inputs,
    )


def _with_features(
    lake: Lake, rows: pl.DataFrame, modality: Modality, names: Mapping[Modality, str]
) -> tuple[pl.DataFrame, Float32Array]:
    """Return the catalogue rows that have features, numbered in column row, and the features."""
    whole = rows.select("content_hash", segment=pl.lit(-1, pl.Int32))
    features, found = _features(lake, modality, names[modality], whole)
    kept = rows.filter(pl.Series(found)).with_row_index("row")
    return kept.with_columns(pl.col("row").cast(pl.Int64)), _select(features, found)


def _segment_features(
    lake: Lake, as_of: dt.date, names: Mapping[Modality, str], dims: Mapping[Modality, int]
) -> dict[str, Float32Array]:
    """Return features of the segments that have both modalities, sorted by segment_id."""
    rows = lake.collect(catalog.segments(lake, as_of).sort("segment_id"), "segments")
    features, found = zip(
        *(
            _features(lake, modality, names[modality], rows, dims[modality])
            for modality in MODALITIES
        ),
        strict=True,
    )
    both = np.logical_and(*found)
    return {
        "segment_video": _select(features[0], both),
        "segment_music": _select(features[1], both),
    }


def _features(
    lake: Lake, modality: Modality, extractor: str, rows: pl.DataFrame, dim: int = 1
) -> tuple[Float32Array, BoolArray]:
    """Read features by content_hash and segment, slice by slice into one array.

    Args:
        lake: the tables.
        modality: kind of the features.
        extractor: extractor of the features.
        rows: content_hash and segment of the features to read.
        dim: width of the array if no row has features.

    Returns:
        float32 [len(rows), D], and bool [len(rows)]: whether the row has features.
    """
    wanted = rows.select("content_hash", "segment").with_row_index("row")
    found = np.zeros(len(rows), dtype=np.bool_)
    features = np.zeros((len(rows), dim), dtype=np.float32)
    columns = ["content_hash", "segment", "embedding"]
    for part in lake.slices(f"{modality}_features", columns, pc.field("extractor") == extractor):
        matches = part.join(wanted, on=["content_hash", "segment"])
        if matches.is_empty():
            continue
        if not found.any():
            features = np.zeros((len(rows), len(matches["embedding"][0])), dtype=np.float32)
        row = matches["row"].to_numpy()
        features[row] = matches["embedding"].list.to_array(features.shape[1]).to_numpy()
        found[row] = True
    return features, found


def _select(features: Float32Array, rows: BoolArray) -> Float32Array:
    """Return the selected rows; if that is all of them, without a copy."""
    return features if rows.all() else features[rows]


def _cut_offs(
    uploaded_at: pl.Series, validation_share: float, test_share: float
) -> tuple[dt.datetime, dt.datetime]:
    """Return the times of the first validation pick and of the first test pick.

    Args:
        uploaded_at: times of the picks, ascending.
        validation_share: share of the picks to validate on.
        test_share: share of the newest picks to test on.
    """
    n = len(uploaded_at)
    first_validation = int(n * (1 - validation_share - test_share))
    first_test = int(n * (1 - test_share))
    return (
        uploaded_at[min(max(first_validation, 1), n - 1)],
        uploaded_at[min(max(first_test, 1), n - 1)],
    )


def _pick_arrays(
    picks: pl.DataFrame, cut_offs: tuple[dt.datetime, dt.datetime], n_groups: int
) -> dict[str, AnyArray]:
    """Return the picks as arrays; pick_part is TRAIN, VALIDATION or TEST.

    Nothing from the future leaks into a preference: it counts only uploads strictly earlier than
    its own pick, and its prior is fitted to the training picks.
    """
    uploader = picks["uploader_id"].rank("dense").cast(pl.Int64).to_numpy() - 1
    time = picks["uploaded_at"].dt.epoch("us").to_numpy() / 1e6
    group = picks["group"].to_numpy()
    part = (
        picks.select(
            (pl.col("uploaded_at") >= cut_offs[0]).cast(pl.Int64)
            + (pl.col("uploaded_at") >= cut_offs[1]).cast(pl.Int64)
        )
        .to_series()
        .to_numpy()
    )
    trained = part == TRAIN
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
        # In slices: JSON of the whole catalogue would need more memory than the catalogue.
        for rows in frame.iter_slices(100_000):
            digest.update(rows.write_json().encode())
    return digest.hexdigest()
