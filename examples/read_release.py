"""Rank tracks from a release's Parquet files, without debcm and without an index.

    python examples/read_release.py demo/lake v0103

The score of a track for a video is the inner product of their embeddings. docs/releases.md lists
the files and columns. Any language that reads Parquet can do the same.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import polars as pl


def main() -> None:
    """Print the best tracks for one video of the release."""
    parser = argparse.ArgumentParser(description="Rank tracks from a release's Parquet files.")
    parser.add_argument("lake", type=Path, help="root of a lake on a local disk")
    parser.add_argument("video_id", help="id of a video of the release")
    parser.add_argument("--top", type=int, default=5, help="number of tracks")
    given = parser.parse_args()

    releases = given.lake / "releases"
    current = json.loads((releases / "current.json").read_text(encoding="utf-8"))
    folder = releases / current["release_id"]
    print(f"release {current['release_id']}")

    music = pl.read_parquet(folder / "music.parquet")
    video = pl.read_parquet(folder / "video.parquet").filter(video_id=given.video_id)
    if video.is_empty():
        raise SystemExit(f"the release has no video {given.video_id!r}")
    scores = music["embedding"].to_numpy() @ video["embedding"].to_numpy()[0]
    best = music.with_columns(score=scores).sort("score", descending=True).head(given.top)
    for rank, row in enumerate(best.iter_rows(named=True), 1):
        print(f"{rank}. {row['music_id']}  {row['title']} - {row['artist']}  {row['score']:+.3f}")


if __name__ == "__main__":
    main()
