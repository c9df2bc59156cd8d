"""Measures the cost of serving: `python -m benchmarks.serving` prints two tables.

The first table times queries of a `Release` with 100,000 tracks, without feature extraction. The
second compares the exact index with HNSW at growing sizes: build time, size, query time, and the
recall of HNSW against the exact result. Tracks form clusters, like genres.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from features.arrays import Float32Array
from models import Model, ModelConfig
from models.registry import variant_of
from pipeline.publishing.release_contents import ReleaseContents, write_release_files
from pipeline.releases import files, index
from pipeline.releases.files import ReleaseInfo
from pipeline.releases.serving import Release
from pipeline.releases.towers import Towers, save_towers
from pipeline.settings.load import Settings

GROUPS = ("pop", "rock", "electronic", "hiphop", "classical", "folk", "other")
VIDEO_COLUMNS, MUSIC_COLUMNS = 1400, 600
RUN = "2026-01-01-benchmark0"


def clustered(rows: int, dim: int, seed: int) -> Float32Array:
    """Return float32[rows, dim] unit vectors around 200 centres."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((200, dim))
    points = centres[rng.integers(200, size=rows)] + 0.7 * rng.standard_normal((rows, dim))
    unit: Float32Array = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    return unit


def write_release(folder: Path, tracks: int, videos: int = 1000) -> None:
    """Write a release of random embeddings with the towers of an untrained model."""
    config = ModelConfig()
    network = variant_of(config).build_network(VIDEO_COLUMNS, MUSIC_COLUMNS, len(GROUPS), config)
    model = Model(network, config, VIDEO_COLUMNS, MUSIC_COLUMNS, len(GROUPS))
    dim = model.embed_videos(np.zeros((1, VIDEO_COLUMNS), np.float32)).shape[1]
    save_towers(Towers(model, np.eye(dim, dtype=np.float32), RUN), folder)
    group = [GROUPS[row % len(GROUPS)] for row in range(tracks)]
    contents = ReleaseContents(
        music=pl.DataFrame(
            {
                "music_id": [f"m{row}" for row in range(tracks)],
                "title": [f"Title {row}" for row in range(tracks)],
                "artist": ["Artist"] * tracks,
                "genre": group,
                "genre_group": group,
                "cold": [False] * tracks,
            }
        ),
        adjusted=clustered(tracks, dim, 1),
        unadjusted=clustered(tracks, dim, 2),
        videos=pl.DataFrame(
            {"video_id": [f"v{row}" for row in range(videos)], "uploader_hash": ["u"] * videos}
        ),
        embeddings=clustered(videos, dim, 3),
        queries=np.zeros(0, dtype=np.int64),
        features=np.zeros((0, VIDEO_COLUMNS), dtype=np.float32),
    )
    info = ReleaseInfo(
        format=files.FORMAT,
        release_id=RUN,
        run_id=RUN,
        as_of="2026-01-01",
        dim=dim,
        groups=GROUPS,
        visual_extractor="none@0",
        audio_extractor="none@0",
        visual={},
        audio={},
        limits={},
        music=tracks,
        videos=videos,
        index="flat",
        previous=None,
        decision={"decision": "publish", "verdicts": [], "force": None},
        inputs={},
        packages={},
    )
    metrics = {
        "evaluation_set": {"rows": 0, "k": 10, "sha256": ""},
        "contenders": {},
        "champion": {"release_id": None, "scored": False, "why": "none"},
        "continuity": None,
    }
    write_release_files(folder, info, contents, metrics, Settings().release)


def milliseconds(call: Callable[[int], object], times: int) -> tuple[float, float]:
    """Return median and 95th percentile of a call's wall time, after three warm-up calls."""
    taken = []
    for turn in range(times + 3):
        start = time.perf_counter()
        call(turn)
        taken.append(1e3 * (time.perf_counter() - start))
    return float(np.median(taken[3:])), float(np.quantile(taken[3:], 0.95))


def queries(tracks: int, times: int) -> None:
    """Print the table of query times."""
    with tempfile.TemporaryDirectory() as folder:
        write_release(Path(folder), tracks)
        start = time.perf_counter()
        release = Release(Path(folder))
        opened = time.perf_counter() - start
        rng = np.random.default_rng(4)
        features = rng.standard_normal((64, VIDEO_COLUMNS)).astype(np.float32)
        embeddings = clustered(64, release.info.dim, 5)
        excluded = [f"m{row}" for row in range(1000)]
        calls: dict[str, Callable[[int], object]] = {
            "features to ten tracks": lambda t: release.search(release.embed(features[t % 64])),
            "embedding to ten tracks": lambda t: release.search(embeddings[t % 64]),
            "of one genre": lambda t: release.search(embeddings[t % 64], genre="folk"),
            "with 1,000 excluded": lambda t: release.search(embeddings[t % 64], exclude=excluded),
            "to 100 tracks": lambda t: release.search(embeddings[t % 64], top=100),
            "one track explained": lambda t: release.explain(embeddings[t % 64], "m7"),
        }
        print(f"Release of {tracks:,} tracks, opened in {opened:.2f} s; ms a query, one thread")
        print(f"{'query':28} {'median':>8} {'95 %':>8}")
        for name, call in calls.items():
            median, high = milliseconds(call, times)
            print(f"{name:28} {median:8.2f} {high:8.2f}")
        with ThreadPoolExecutor(8) as pool:
            start = time.perf_counter()
            list(pool.map(calls["embedding to ten tracks"], range(10 * times)))
            rate = 10 * times / (time.perf_counter() - start)
        print(f"{'eight threads together':28} {rate:8.0f} queries/s")


def search_one(built: Any, queries: Float32Array, turn: int) -> None:
    """Search the ten nearest tracks of one query."""
    index.search(built, queries[turn % len(queries)][None], 10)


def indices(sizes: list[int], times: int) -> None:
    """Print the table that compares the two indices."""
    dim = 65
    asked = clustered(1000, dim, 6)
    print(f"\n{'index':6} {'tracks':>9} {'build s':>8} {'MB':>7} {'recall@10':>9} {'ms':>7}")
    for size in sizes:
        tracks = clustered(size, dim, 7)
        for kind, flat_below in (("flat", size), ("hnsw", 0)):
            start = time.perf_counter()
            built = index.build_index(tracks, flat_below)
            seconds = time.perf_counter() - start
            found = index.measure(built, tracks, asked[:500]).recall
            median, _ = milliseconds(partial(search_one, built, asked), times)
            with tempfile.NamedTemporaryFile() as file:
                index.write_index(built, Path(file.name))
                megabytes = Path(file.name).stat().st_size / 1e6
            print(
                f"{kind:6} {size:9,} {seconds:8.1f} {megabytes:7.1f} {found:9.4f} {median:7.2f}",
                flush=True,
            )


def main() -> None:
    """Read the arguments and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tracks", type=int, default=100_000)
    parser.add_argument("--sizes", type=int, nargs="*", default=[50_000, 200_000])
    parser.add_argument("--times", type=int, default=200)
    arguments = parser.parse_args()
    queries(arguments.tracks, arguments.times)
    indices(arguments.sizes, arguments.times)


if __name__ == "__main__":
    main()
