"""Recommend music from a release, for a video file or for a video that the release knows.

    python examples/recommend.py demo/lake v0103
    python examples/recommend.py demo/lake clip.mp4 --genre pop

A new file is decoded in a child process, under the limits that the release was made with.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from debcm import MediaError, Release


def main() -> None:
    """Print the best tracks for one video."""
    parser = argparse.ArgumentParser(description="Recommend music from a release.")
    parser.add_argument("lake", help="root of a lake, or the folder of one release")
    parser.add_argument("video", help="a video file, or the id of a video of the release")
    parser.add_argument("--genre", help="only tracks of this genre or genre group")
    parser.add_argument("--top", type=int, default=5, help="number of tracks")
    given = parser.parse_args()

    release = Release.open(given.lake)
    print(f"release {release.release_id}")
    recommend = release.recommend if Path(given.video).is_file() else release.recommend_known
    try:
        hits = recommend(given.video, top=given.top, genre=given.genre)
    except MediaError as error:
        raise SystemExit(f"{given.video}: {error}") from error
    for hit in hits:
        print(f"{hit.rank}. {hit.music_id}  {hit.title} - {hit.artist}  {hit.score:+.3f}")


if __name__ == "__main__":
    main()
