"""Real music to measure with: `python -m benchmarks.corpus FOLDER` makes a landing folder of it.

The music of ten games, from Debian's packages (fetched by apt-get, whose lists must be fresh),
under the licences that the packages' copyright files name. The first six tracks of each
game that last long enough for two parts, so that no game rules the table; songs that a game keeps
as two stems are two tracks. Their genre is that of the game, as its players would call it.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from zipfile import ZipFile

import av

DAY = "dt=2026-11-20"
SECONDS = 40.0
MOST = 6
SUFFIXES = (".ogg", ".opus")


@dataclass(frozen=True)
class Game:
    """A package, its genre, and the part of its paths under which music lies."""

    package: str
    genre: str
    folder: str


GAMES = (
    Game("wesnoth-1.16-music", "orchestral", "music/"),
    Game("warzone2100-music", "ambient", "music/"),
    Game("fretsonfire-songs-muldjord", "metal", "songs/"),
    Game("fretsonfire-songs-sectoid", "rock", "songs/"),
    Game("openarena-088-data", "industrial rock", "music/"),
    Game("frozen-bubble-data", "techno", "snd/"),
    Game("zaz-data", "electronic", "zaz/"),
    Game("pushover-data", "world", "themes/"),
    Game("extremetuxracer-data", "synth", "music/"),
    Game("lincity-ng-data", "jazz", "music/"),
)


def unpacked(game: Game, folder: Path) -> Path:
    """Fetch a package and return the folder with its files, archives in it unpacked too."""
    folder.mkdir()
    subprocess.run(["apt-get", "download", "-qq", game.package], cwd=folder, check=True)
    (package,) = folder.glob("*.deb")
    files = folder / "files"
    subprocess.run(["dpkg-deb", "--extract", package, files], check=True)
    for archive in sorted(files.rglob("*.pk3")):
        ZipFile(archive).extractall(archive.with_suffix(""))
    return files


def long_tracks(game: Game, files: Path) -> Iterator[Path]:
    """Yield the music of a game that is long enough, in the order of its paths."""
    for path in sorted(files.rglob("*")):
        if path.suffix in SUFFIXES and game.folder in str(path) and duration(path) >= SECONDS:
            yield path


def duration(path: Path) -> float:
    """Return the length in seconds that a file of music states; 0 where it states none."""
    with av.open(str(path)) as container:
        return (container.duration or 0) / av.time_base


def deliver(landing: Path) -> int:
    """Write the day of music, and return how many tracks it has."""
    media = landing / DAY / "media"
    media.mkdir(parents=True)
    columns = ("music_id", "genre", "title", "artist", "media_path")
    count = 0
    with (landing / DAY / "music.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for game in GAMES:
            with tempfile.TemporaryDirectory() as name:
                files = unpacked(game, Path(name) / "package")
                for path in islice(long_tracks(game, files), MOST):
                    music_id = f"m{count:03d}"
                    kept = media / f"{music_id}{path.suffix}"
                    shutil.move(path, kept)
                    row = (music_id, game.genre, path.stem, game.package, f"media/{kept.name}")
                    writer.writerow(row)
                    count += 1
    (landing / DAY / "_SUCCESS").touch()
    return count


def main() -> None:
    """Fetch, unpack, deliver."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the landing folder to make")
    folder = parser.parse_args().folder
    print(f"{folder}: {deliver(folder)} tracks of {len(GAMES)} games")


if __name__ == "__main__":
    main()
