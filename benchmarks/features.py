"""Measures what the features represent: `python -m benchmarks.features` prints two tables.

The media come from the landing folder that --media names (`python -m benchmarks.corpus` makes one
of real music); media that the folder lacks are rendered by the simulation. Retrieval is by the
cosine of features standardised over the catalogue. Columns:

- same track (clip): share of parts whose nearest part is the other part of the same file
- genre of nearest: share of parts whose nearest part of another track has the same genre group
- same-genre AUC: probability that two tracks of one group are more similar than two of different
  groups
- other codec: share of files that are found by a copy in another codec at another level
- excerpt: share of ten-second mp3 excerpts that find the part they were cut from
- its track: share of excerpts that find a part of the track they were cut from
- cosine, lowest: mean and lowest cosine between a file and its copies
- controls: rendered clips only; the share of the variance of the rendering parameters (speed,
  light, cuts and so on) that a leave-one-out ridge regression predicts
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import numpy as np
import numpy.typing as npt
import soundfile

from features import AudioConfig, AudioExtractor, MediaFile, VisualConfig, VisualExtractor
from features.arrays import Float64Array
from features.sound.blocks import BLOCKS
from features.sound.decode import decode_sound
from pipeline.settings.sections import GenreSettings
from simulation.encode import SAMPLE_RATE, write_sound, write_video
from simulation.music import MusicControls, make_music
from simulation.pictures import SCENES, PictureControls, make_frames
from simulation.styles import STYLES

PART_SECONDS = 20.0
EXCERPT_SECONDS = 10.0
# Codec and level (a factor) of the copies that have to find their original.
COPIES = (("mp3", 0.25), ("ogg", 0.5), ("m4a", 0.7), ("wav", 0.1))
OTHER_CODECS = (
    ("libx264", {"preset": "veryfast", "crf": "32"}),
    ("libvpx", {"cpu-used": "5", "deadline": "good", "b": "400k"}),
)


@dataclass(frozen=True)
class Track:
    """A file of music and its genre group."""

    path: Path
    genre: str


def real_tracks(media: Path) -> list[Track]:
    """Return the music of all landing days of a folder."""
    groups = GenreSettings()
    found = []
    for manifest in sorted(media.glob("dt=*/music.csv")):
        with manifest.open(newline="") as file:
            found += [
                Track(manifest.parent / row["media_path"], groups.group(row["genre"]))
                for row in csv.DictReader(file)
            ]
    return found


def simulated_tracks(folder: Path) -> list[Track]:
    """Render ten tracks of each genre group."""
    rng = np.random.default_rng(0)
    found = []
    for genre, number in itertools.product(STYLES, range(10)):
        path = folder / f"{genre}{number}.wav"
        controls = MusicControls(*rng.uniform(0, 1, len(fields(MusicControls))))
        write_sound(path, make_music(genre, controls, 2 * PART_SECONDS, rng))
        found.append(Track(path, str(genre)))
    return found


def simulated_clips(folder: Path, count: int) -> tuple[list[Path], Float64Array]:
    """Render clips of each kind of scene; return them and their parameters [N, 8], 0 to 1."""
    rng = np.random.default_rng(1)
    found, made_from = [], []
    for scene, number in itertools.product(range(len(SCENES)), range(count)):
        path = folder / f"scene{scene}-{number}.mp4"
        controls = rng.uniform(0, 1, len(fields(PictureControls)))
        frames = make_frames(scene, PictureControls(*controls), 8.0, 24, (256, 256), rng)
        write_video(path, frames, 24, np.zeros((2, SAMPLE_RATE), np.float32))
        found.append(path)
        made_from.append(controls)
    return found, np.stack(made_from)


def cosines(rows: Float64Array, columns: Float64Array, catalogue: Float64Array) -> Float64Array:
    """Return cosines [N, M] after standardisation over the catalogue."""
    mean, deviation = catalogue.mean(axis=0), catalogue.std(axis=0) + 1e-6

    def unit(values: Float64Array) -> Float64Array:
        standard = (values - mean) / deviation
        return np.asarray(standard / (np.linalg.norm(standard, axis=1, keepdims=True) + 1e-9))

    return np.asarray(unit(rows) @ unit(columns).T)


def auc(same: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Return the probability that a value of `same` is above a value of `other`."""
    ranks = np.concatenate([same, other]).argsort().argsort() + 1.0
    n = len(same)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * len(other)))


@dataclass
class Answers:
    """The nearest neighbours of each part of a track.

    Attributes:
        similar: [N, N], cosines of all parts.
        same: [N], whether the nearest part is of the same track.
        nearest: [N], 1 where the nearest part of another track has the same genre group, else 0;
            nan where no other track has it.
        owner: [N], track of each part.
        genre: [N], genre group of each part.
    """

    similar: Float64Array
    same: npt.NDArray[np.bool_]
    nearest: Float64Array
    owner: npt.NDArray[np.int64]
    genre: npt.NDArray[np.str_]


def ask(parts: Float64Array, owner: npt.NDArray[np.int64], genre: npt.NDArray[np.str_]) -> Answers:
    """Find the nearest neighbours of each part."""
    similar = cosines(parts, parts, parts)
    others = similar.copy()
    np.fill_diagonal(others, -np.inf)
    same = owner[others.argmax(axis=1)] == owner
    others[owner[:, None] == owner[None]] = -np.inf
    nearest = (genre[others.argmax(axis=1)] == genre).astype(np.float64)
    alone = [len(set(owner[genre == one])) == 1 for one in genre]
    nearest[alone] = np.nan
    return Answers(similar, same, nearest, owner, genre)


def track_measures(found: Answers, rows: npt.NDArray[np.int64]) -> list[float]:
    """Return same-track share, genre of the nearest other track, and same-genre AUC."""
    first, second = (rows[index] for index in np.triu_indices(len(rows), 1))
    apart = found.owner[first] != found.owner[second]
    alike = found.genre[first] == found.genre[second]
    values = found.similar[first, second]
    area = auc(values[apart & alike], values[apart & ~alike])
    return [float(found.same[rows].mean()), float(np.nanmean(found.nearest[rows])), area]


def intervals(found: Answers) -> list[str]:
    """Return 95 % bootstrap intervals of `track_measures`, over 1000 draws of tracks."""
    rng = np.random.default_rng(0)
    tracks = len(found.owner) // 2
    drawn = rng.integers(0, tracks, (1000, tracks))
    values = [track_measures(found, (2 * some[:, None] + np.arange(2)).ravel()) for some in drawn]
    ends = np.percentile(values, [2.5, 97.5], axis=0)
    return [f"{low:.2f} to {high:.2f}" for low, high in ends.T]


def retrieval(
    queries: Float64Array, catalogue: Float64Array, truth: npt.NDArray[np.int64]
) -> list[float]:
    """Return the share of rows whose nearest row is the true one, and the mean cosine with it."""
    similar = cosines(queries, catalogue, catalogue)
    true = similar[np.arange(len(truth)), truth]
    return [float((similar.argmax(axis=1) == truth).mean()), float(true.mean()), float(true.min())]


def write_copy(path: Path, mono: npt.NDArray[np.float32]) -> None:
    """Encode mono sound at SAMPLE_RATE as stereo."""
    stereo = np.stack([mono, mono])
    if path.suffix == ".ogg":
        # FFmpeg's own Vorbis encoder is experimental and audibly worse than libvorbis.
        soundfile.write(path, stereo.T, SAMPLE_RATE, format="OGG", subtype="VORBIS")
    else:
        write_sound(path, stereo)


@dataclass
class Catalogue:
    """Embeddings [N, D] of all blocks, with the source of each row."""

    parts: Float64Array
    owner: npt.NDArray[np.int64]
    genre: npt.NDArray[np.str_]
    copies: Float64Array
    origin: npt.NDArray[np.int64]
    excerpts: Float64Array


def extract_all(tracks: Sequence[Track], extractor: AudioExtractor, folder: Path) -> Catalogue:
    """Extract two parts of each track, and copies and an excerpt of the first."""
    parts, copies, excerpts = [], [], []
    for number, track in enumerate(tracks):
        rate = extractor.config.sample_rate
        sound = decode_sound(MediaFile(track.path), rate, 2 * PART_SECONDS)
        halves = np.array_split(sound.samples, 2)
        parts += [extractor.measure(half, sound.decoder).embedding for half in halves]
        wide = decode_sound(MediaFile(track.path), SAMPLE_RATE, PART_SECONDS).samples
        for suffix, level in COPIES:
            path = folder / f"copy{number}.{suffix}"
            write_copy(path, wide * np.float32(level))
            copies.append(extractor.extract(MediaFile(path))[0].embedding)
        edge = max(0, (len(wide) - round(EXCERPT_SECONDS * SAMPLE_RATE)) // 2)
        write_copy(folder / "excerpt.mp3", wide[edge : len(wide) - edge] / np.float32(2))
        excerpts.append(extractor.extract(MediaFile(folder / "excerpt.mp3"))[0].embedding)
    return Catalogue(
        np.stack(parts).astype(np.float64),
        np.arange(len(tracks)).repeat(2),
        np.array([track.genre for track in tracks]).repeat(2),
        np.stack(copies).astype(np.float64),
        2 * np.arange(len(tracks)).repeat(len(COPIES)),
        np.stack(excerpts).astype(np.float64),
    )


def sound_table(tracks: Sequence[Track], folder: Path) -> None:
    """Print the table of sound."""
    default = AudioConfig().blocks
    others = tuple(name for name in BLOCKS if name not in default)
    extractor = AudioExtractor(AudioConfig(blocks=(*default, *others)))
    measured = extract_all(tracks, extractor, folder)
    groups = len(set(measured.genre))
    print(f"\nSound: {len(tracks)} tracks of {groups} genre groups, two parts each")
    header = ["same track", "genre of nearest", "same-genre AUC", "other codec", "excerpt"]
    print_row("block", "dims", [*header, "its track", "cosine", "lowest"])
    everything = np.arange(len(measured.owner))
    rows: dict[str, tuple[str, ...]] = {name: (name,) for name in ("network", *BLOCKS)}
    rows |= {"default": default}
    rows |= {f"default - {name}": tuple(b for b in default if b != name) for name in default}
    rows |= {f"default + {name}": (*default, name) for name in others}
    for name, blocks in rows.items():
        index = columns(extractor.blocks, blocks)
        parts = measured.parts[:, index]
        found, mean, lowest = retrieval(measured.copies[:, index], parts, measured.origin)
        near = cosines(measured.excerpts[:, index], parts, parts).argmax(axis=1)
        excerpt = float((near == 2 * np.arange(len(tracks))).mean())
        track = float((measured.owner[near] == np.arange(len(tracks))).mean())
        answers = ask(parts, measured.owner, measured.genre)
        values = [*track_measures(answers, everything), found, excerpt, track, mean, lowest]
        print_row(name, str(len(index)), [f"{value:.3f}" for value in values])
        if name == "default":
            print_row("95 % interval", "", intervals(answers))


def columns(blocks: dict[str, slice], names: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the indices of some blocks of an embedding."""
    return np.concatenate([np.arange(blocks[name].start, blocks[name].stop) for name in names])


def print_row(name: str, dims: str, cells: Sequence[str]) -> None:
    """Print one row of a Markdown table."""
    print(f"| {name:>24} | {dims:>4} | " + " | ".join(f"{cell:>16}" for cell in cells) + " |")


def recoded(path: Path, target: Path, codec: str, options: dict[str, str]) -> None:
    """Write a copy of a clip in another codec and size."""
    with av.open(str(path)) as source, av.open(str(target), "w") as output:
        stream = source.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
        copy = output.add_stream(codec, rate=rate, options=options)
        assert isinstance(copy, av.VideoStream)
        copy.width = 320
        copy.height = max(2, round(320 * stream.height / stream.width / 2) * 2)
        copy.pix_fmt = "yuv420p"
        # With several threads, libvpx gives different bytes each time.
        copy.codec_context.thread_count = 1
        if stream.time_base:
            copy.codec_context.time_base = stream.time_base
        for frame in itertools.islice(source.decode(stream), 900):
            output.mux(copy.encode(frame.reformat(copy.width, copy.height, "yuv420p")))
        output.mux(copy.encode(None))


def explained(blocks: Sequence[Float64Array], truth: Float64Array) -> float:
    """Return the share of variance (at most 1) that leave-one-out ridge regression predicts.

    Each block weighs alike, whatever its dimension; the ridge is the best of six.
    """
    kernel = np.zeros((len(truth), len(truth)))
    for block in blocks:
        standard = (block - block.mean(axis=0)) / (block.std(axis=0) + 1e-6)
        gram = standard @ standard.T
        kernel += gram / np.trace(gram)
    centred = truth - truth.mean(axis=0)
    best = -np.inf
    for ridge in 10.0 ** np.arange(-5, 1):
        inverse = np.linalg.inv(kernel + (ridge * np.eye(len(kernel)) + 1) / len(kernel))
        # Leave-one-out residuals in closed form (Rasmussen and Williams, 5.4.2).
        left_out = (inverse @ centred) / np.diag(inverse)[:, None]
        best = max(best, 1 - float((left_out**2).sum() / (centred**2).sum()))
    return best


def picture_table(clips: Sequence[Path], folder: Path) -> None:
    """Print the table of pictures."""
    default = VisualConfig().blocks
    extractor = VisualExtractor(VisualConfig(blocks=(*default, "cuts")))
    parts, whole, copies = [], [], []
    for number, path in enumerate(clips):
        (once,) = extractor.extract(MediaFile(path))
        whole.append(once.embedding)
        # The last frame time is the centre of the last part.
        length = float(once.frame_times[-1])
        spans = [(0.0, length / 2), (length / 2, length)]
        parts += [features.embedding for features in extractor.extract(MediaFile(path), spans)]
        recoded(path, folder / "copy.mkv", *OTHER_CODECS[number % 2])
        copies.append(extractor.extract(MediaFile(folder / "copy.mkv"))[0].embedding)
    halved = np.stack(parts).astype(np.float64)
    catalogue = np.stack(whole).astype(np.float64)
    queries = np.stack(copies).astype(np.float64)
    rendered, truth = simulated_clips(folder, 12)
    made = np.stack([extractor.extract(MediaFile(path))[0].embedding for path in rendered]).astype(
        np.float64
    )
    print(f"\nPictures: {len(clips)} clips; controls of {len(rendered)} rendered ones")
    print_row("block", "dims", ["same clip", "other codec", "cosine", "controls"])
    network = next(iter(extractor.blocks))
    rows = {name: [name] for name in extractor.blocks} | {"default": [network, *default]}
    rows |= {f"default - {name}": [network, *(b for b in default if b != name)] for name in default}
    rows |= {"default + cuts": [network, *default, "cuts"]}
    owner = np.arange(len(clips)).repeat(2)
    for name, blocks in rows.items():
        index = columns(extractor.blocks, blocks)
        similar = cosines(halved[:, index], halved[:, index], halved[:, index])
        np.fill_diagonal(similar, -np.inf)
        same = float((owner[similar.argmax(axis=1)] == owner).mean())
        found, cosine, _ = retrieval(queries[:, index], catalogue[:, index], np.arange(len(clips)))
        share = explained([made[:, extractor.blocks[block]] for block in blocks], truth)
        cells = [f"{value:.3f}" for value in (same, found, cosine, share)]
        print_row(name, str(len(index)), cells)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--media", type=Path, help="landing folder with media")
    media = parser.parse_args().media
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tracks = real_tracks(media) if media else []
        clips = sorted(media.glob("dt=*/media/video/*")) if media else []
        print(f"media: {len(tracks)} real tracks, {len(clips)} real clips (0: rendered instead)")
        tracks = tracks or simulated_tracks(folder)
        clips = clips or simulated_clips(folder, 4)[0]
        sound_table(tracks, folder)
        picture_table(clips, folder)


if __name__ == "__main__":
    main()
