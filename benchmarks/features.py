"""What the features tell: `python -m benchmarks.features` prints tables of sound and pictures.

Uses the real clips of ../shared/media where that folder lies beside the checkout (or the
folder named by --media, in the landing contract), else clips of the simulated world.
Every column is measured on features standardised over the catalogue, by cosine.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import numpy as np
import numpy.typing as npt

from features import AudioConfig, AudioExtractor, Limits, VisualConfig, VisualExtractor
from features.sound import decode_sound
from simulation.encode import SAMPLE_RATE, write_sound, write_video
from simulation.music import Musical, make_music
from simulation.pictures import SCENES, Pictorial, make_frames
from simulation.styles import STYLES

Matrix = npt.NDArray[np.float64]

SHARED = Path(__file__).parents[2] / "shared" / "media" / "landing"
PART_SECONDS = 20.0
# Another codec, another level (a factor), for the retrieval of the same recording.
COPIES = (("mp3", 0.25), ("ogg", 0.5), ("m4a", 0.7))
OTHER_CODECS = (
    ("libx264", {"preset": "veryfast", "crf": "32"}),
    ("libvpx", {"cpu-used": "8", "deadline": "realtime", "b": "400k"}),
)


@dataclass(frozen=True)
class Track:
    """A file of music and its genre."""

    path: Path
    genre: str


def real_tracks(media: Path) -> list[Track]:
    """Return the music of all days in a landing folder."""
    found = []
    for manifest in sorted(media.glob("dt=*/music.csv")):
        with manifest.open(newline="") as file:
            found += [
                Track(manifest.parent / row["media_path"], row["genre"])
                for row in csv.DictReader(file)
            ]
    return found


def simulated_tracks(folder: Path) -> list[Track]:
    """Render five tracks of each genre group."""
    rng = np.random.default_rng(0)
    found = []
    for genre, number in itertools.product(STYLES, range(5)):
        path = folder / f"{genre}{number}.wav"
        controls = Musical(*rng.uniform(0, 1, len(fields(Musical))))
        write_sound(path, make_music(genre, controls, 2 * PART_SECONDS, rng))
        found.append(Track(path, str(genre)))
    return found


def simulated_clips(folder: Path) -> list[Path]:
    """Render four clips of each kind of scene."""
    rng = np.random.default_rng(1)
    found = []
    for scene, number in itertools.product(range(len(SCENES)), range(4)):
        path = folder / f"scene{scene}-{number}.mp4"
        controls = Pictorial(*rng.uniform(0, 1, len(fields(Pictorial))))
        frames = make_frames(scene, controls, 8.0, 24, (256, 256), rng)
        write_video(path, frames, 24, np.zeros((2, SAMPLE_RATE), np.float32))
        found.append(path)
    return found


def cosines(rows: Matrix, columns: Matrix, catalogue: Matrix) -> Matrix:
    """Return cosines [N, M] after standardisation over the catalogue."""
    mean, deviation = catalogue.mean(axis=0), catalogue.std(axis=0) + 1e-6

    def unit(values: Matrix) -> Matrix:
        standard = (values - mean) / deviation
        return np.asarray(standard / (np.linalg.norm(standard, axis=1, keepdims=True) + 1e-9))

    return np.asarray(unit(rows) @ unit(columns).T)


def auc(same: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Return the probability that a value of ``same`` is above one of ``other``."""
    ranks = np.concatenate([same, other]).argsort().argsort() + 1.0
    n = len(same)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * len(other)))


def judge(parts: Matrix, owner: npt.NDArray[np.int64], genre: npt.NDArray[np.str_]) -> list[float]:
    """Return same-track retrieval, genre of the nearest other track, same-genre AUC."""
    similar = cosines(parts, parts, parts)
    others = similar.copy()
    np.fill_diagonal(others, -np.inf)
    same = float((owner[others.argmax(axis=1)] == owner).mean())
    others[owner[:, None] == owner[None]] = -np.inf
    shared = [i for i in range(len(owner)) if len(set(owner[genre == genre[i]])) > 1]
    nearest = float(np.mean([genre[others[i].argmax()] == genre[i] for i in shared]))
    first, second = np.triu_indices(len(owner), 1)
    apart = owner[first] != owner[second]
    alike = genre[first] == genre[second]
    values = similar[first, second]
    return [same, nearest, auc(values[apart & alike], values[apart & ~alike])]


def retrieval(queries: Matrix, catalogue: Matrix, truth: npt.NDArray[np.int64]) -> list[float]:
    """Return how often the nearest row is the true one, and the mean cosine with it."""
    similar = cosines(queries, catalogue, catalogue)
    true = similar[np.arange(len(truth)), truth]
    return [float((similar.argmax(axis=1) == truth).mean()), float(true.mean()), float(true.min())]


def sound_table(tracks: Sequence[Track], folder: Path) -> None:
    """Print the table of sound."""
    default = AudioConfig().blocks
    config = AudioConfig(blocks=("log_mel", "timbre", "brightness", "rhythm", "tempo", "harmony"))
    extractor = AudioExtractor(config)
    parts, owner, genre, copies, origin = [], [], [], [], []
    for number, track in enumerate(tracks):
        sound = decode_sound(track.path, config.sample_rate, 2 * PART_SECONDS, Limits())
        for half in np.array_split(sound.samples, 2):
            parts.append(extractor.measure(half, sound.decoder).embedding)
            owner.append(number)
            genre.append(track.genre)
        wide = decode_sound(track.path, SAMPLE_RATE, PART_SECONDS, Limits()).samples
        for suffix, level in COPIES:
            path = folder / f"copy{number}.{suffix}"
            write_sound(path, np.stack([wide, wide]) * np.float32(level))
            copies.append(extractor.extract(path)[0].embedding)
            origin.append(2 * number)
            path.unlink()
    catalogue = np.stack(parts).astype(np.float64)
    queries = np.stack(copies).astype(np.float64)
    print(f"\nSound: {len(tracks)} tracks of {len(set(genre))} genres, two parts each")
    header = ["same track", "genre of nearest", "same-genre AUC", "other codec", "cosine", "lowest"]
    print(f"{'block':>22} | dims | " + " | ".join(f"{name:>16}" for name in header))
    rows = {"log-mel mean + std": ("log_mel",)}
    rows |= {name: (name,) for name in config.blocks[1:]}
    rows |= {"default": default}
    rows |= {f"default - {name}": tuple(b for b in default if b != name) for name in default}
    rows |= {"default + tempo": (*default, "tempo"), "default + log_mel": (*default, "log_mel")}
    for name, blocks in rows.items():
        index = np.concatenate([np.arange(extractor.dim)[extractor.blocks[b]] for b in blocks])
        values = judge(catalogue[:, index], np.array(owner), np.array(genre))
        values += retrieval(queries[:, index], catalogue[:, index], np.array(origin))
        cells = " | ".join(f"{value:16.3f}" for value in values)
        print(f"{name:>22} | {len(index):4d} | {cells}")


def recoded(path: Path, target: Path, codec: str, options: dict[str, str]) -> None:
    """Write a clip again by another codec at another size."""
    with av.open(str(path)) as source, av.open(str(target), "w") as output:
        stream = source.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
        copy = output.add_stream(codec, rate=rate, options=options)
        copy.width = 320
        copy.height = max(2, round(320 * stream.height / stream.width / 2) * 2)
        copy.pix_fmt = "yuv420p"
        copy.codec_context.time_base = stream.time_base
        for frame in itertools.islice(source.decode(stream), 900):
            output.mux(copy.encode(frame.reformat(copy.width, copy.height, "yuv420p")))
        output.mux(copy.encode(None))


def halves(seconds: float) -> Iterator[tuple[float, float]]:
    """Yield the two halves of a clip."""
    yield 0.0, seconds / 2
    yield seconds / 2, seconds


def picture_table(clips: Sequence[Path], folder: Path) -> None:
    """Print the table of pictures."""
    extractor = VisualExtractor(VisualConfig())
    parts, owner, whole, copies = [], [], [], []
    for number, path in enumerate(clips):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            length = float(stream.duration * stream.time_base) if stream.duration else 2.0
        parts += [f.embedding for f in extractor.extract(path, list(halves(0.98 * length)))]
        owner += [number, number]
        whole.append(extractor.extract(path)[0].embedding)
        target = folder / "copy.mkv"
        recoded(path, target, *OTHER_CODECS[number % 2])
        copies.append(extractor.extract(target)[0].embedding)
    halved = np.stack(parts).astype(np.float64)
    catalogue = np.stack(whole).astype(np.float64)
    queries = np.stack(copies).astype(np.float64)
    print(f"\nPictures: {len(clips)} clips")
    print(f"{'block':>22} | dims | {'same clip':>16} | {'other codec':>16} | {'cosine':>16}")
    names = list(extractor.blocks)
    rows = {name: [name] for name in names} | {"dynamics": names[1:], "default": names}
    for name, blocks in rows.items():
        index = np.concatenate([np.arange(extractor.dim)[extractor.blocks[b]] for b in blocks])
        similar = cosines(halved[:, index], halved[:, index], halved[:, index])
        np.fill_diagonal(similar, -np.inf)
        same = float((np.array(owner)[similar.argmax(axis=1)] == np.array(owner)).mean())
        truth = np.arange(len(clips))
        found, cosine, _ = retrieval(queries[:, index], catalogue[:, index], truth)
        print(f"{name:>22} | {len(index):4d} | {same:16.3f} | {found:16.3f} | {cosine:16.3f}")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--media", type=Path, default=SHARED, help="a landing folder")
    media = parser.parse_args().media
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if media.is_dir():
            tracks = real_tracks(media)
            clips = sorted(media.glob("dt=*/media/video/*"))
            print(f"media: {media.name} with {len(tracks)} tracks and {len(clips)} clips")
        else:
            tracks, clips = simulated_tracks(folder), simulated_clips(folder)
            print("media: rendered by the simulation")
        sound_table(tracks, folder)
        picture_table(clips, folder)


if __name__ == "__main__":
    main()
