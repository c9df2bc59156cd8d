"""Makes a landing folder of real music: `python -m benchmarks.corpus FOLDER`.

The music is that of ten games in Debian's packages, under the licences in the packages' copyright
files. apt-get downloads them; its package lists must be current. At most six tracks per game that
are long enough for two parts are taken, so that no game dominates the results. A song that a game
stores as two stems counts as two tracks. The genre is that of the game's soundtrack.
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
    """A package, its genre, and the path fragment of its music files."""

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
    """Download a package, unpack it and the archives in it, and return the folder."""
    folder.mkdir()
    subprocess.run(["apt-get", "download", "-qq", game.package], cwd=folder, check=True)
    (package,) = folder.glob("*.deb")
    files = folder / "files"
    subprocess.run(["dpkg-deb", "--extract", package, files], check=True)
    for archive in sorted(files.rglob("*.pk3")):
        ZipFile(archive).extractall(archive.with_suffix(""))
    return files


def long_tracks(game: Game, files: Path) -> Iterator[Path]:
    """Yield the files of a game that are long enough, sorted by path."""
    for path in sorted(files.rglob("*")):
        if path.suffix in SUFFIXES and game.folder in str(path) and duration(path) >= SECONDS:
            yield path


def duration(path: Path) -> float:
    """Return the length in seconds that a file declares; 0 if it declares none."""
    with av.open(str(path)) as container:
        return (container.duration or 0) / av.time_base


def deliver(landing: Path) -> int:
    """Write the landing day and return its number of tracks."""
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
    """Make the landing folder named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the landing folder to make")
    folder = parser.parse_args().folder
    print(f"{folder}: {deliver(folder)} tracks of {len(GAMES)} games")


if __name__ == "__main__":
    main()
