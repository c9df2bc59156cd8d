"""Measures the cost of a night as the catalogue grows: `python -m benchmarks.scale`.

Three tables are printed. The first has the CPU seconds of each step, in its own process, for 1k,
10k, 100k and 1M items in the catalogue, with a release of the day before and 500 new items
(`--new`), and the exponent of growth over the largest tenfold step. The second has the peak memory
of these processes. The third has ingest, plan and one extraction task over few and many small
clips. Vectors have 64 and 32 columns; the cost of a step is linear in that.
"""

from __future__ import annotations

import argparse
import datetime as dt
import math
import multiprocessing
import os
import resource
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from features.config import VisualConfig
from models import Model, ModelConfig, train_student
from models.data import Picks
from pipeline.context import Context
from pipeline.extraction import accounting, extract, shards
from pipeline.extraction.clips import MODALITIES, Modality, delivered_clips
from pipeline.ingestion import ingest
from pipeline.ingestion.id_owners import find_earlier_owners
from pipeline.ingestion.manifest import Manifest
from pipeline.lake.tables import Lake
from pipeline.publishing import publish
from pipeline.releases import index
from pipeline.releases.current import read_current
from pipeline.releases.files import MUSIC, read_release_info, read_vectors
from pipeline.settings.load import Settings
from pipeline.settings.sections import ExtractSettings, LakeSettings, LandingSettings, SplitSettings
from pipeline.storage.store import Store
from pipeline.training import confounders, dataset, evaluate, gate
from pipeline.training.dataset import load_dataset
from pipeline.training.gate import ForceRequest
from simulation.encode import SAMPLE_RATE, write_sound, write_video
from simulation.lake import Latents, SimulatedDay, write_simulated_day

HISTORY_DAYS = 20
TRACK_SHARE = 0.1
TRAINED_BATCHES = 20
WIDTHS = (64, 32)
TONIGHT = dt.date(2026, 3, 1)
YESTERDAY = TONIGHT - dt.timedelta(days=1)
FREE_BOX = b"\0\0\0\x10free"


class Bench:
    """A lake with `count` items in the catalogue; the last `new` of them arrive tonight."""

    def __init__(self, folder: Path, items: int, new: int) -> None:
        self.items = items
        self.new = new
        held_out = new / items / 2
        self.settings = Settings(
            lake=LakeSettings(root=str(folder / "lake")),
            landing=LandingSettings(root=folder / "landing"),
            split=SplitSettings(validation_share=held_out, test_share=held_out),
            model=ModelConfig(epochs=1, teacher=False),
        )
        self.lake = Lake(self.settings.lake)
        self.store = Store(self.settings.lake)

    @property
    def run_id(self) -> str:
        """The run_id of the only run."""
        return self.store.children("runs")[-1]

    def fill(self) -> float:
        """Write the earlier items in equal days, then tonight's."""
        tracks = int(self.items * TRACK_SHARE)
        new_tracks = int(self.new * TRACK_SHARE)
        latents = Latents.make(tracks, *WIDTHS, 0)
        music = np.linspace(0, tracks - new_tracks, HISTORY_DAYS + 1).astype(int)
        videos = np.linspace(0, self.items - tracks - self.new + new_tracks, HISTORY_DAYS + 1)
        uploaders = max(20, self.items // 50)
        for day, (track, video) in enumerate(zip(music, videos.astype(int), strict=True)):
            last = day == HISTORY_DAYS
            simulated = SimulatedDay(
                TONIGHT - dt.timedelta(days=HISTORY_DAYS - day),
                videos=self.new - new_tracks if last else int(videos[day + 1]) - int(video),
                music=new_tracks if last else int(music[day + 1] - track),
                uploaders=uploaders,
                first=int(video),
                first_music=int(track),
            )
            write_simulated_day(self.settings, self.lake, simulated, latents)
            if simulated.day == YESTERDAY:
                self._release()
        return 0.0

    def _release(self) -> None:
        """Publish yesterday's catalogue, so that the gate has a champion to compare with."""
        dataset.build(Context(self.settings), YESTERDAY)
        self.train_step()
        self.evaluate()
        self.gate()
        self.publish()

    def ids(self) -> float:
        """Look up earlier days for tonight's rows, as ingest does."""
        videos = self.lake.read("videos").filter(dt=TONIGHT).select("video_id", "music_id")
        rows = list(enumerate(videos.iter_rows(named=True), start=1))
        manifests = Manifest(rows, [], "videos"), Manifest([], [], "music")
        return seconds(lambda: find_earlier_owners(self.lake, TONIGHT, *manifests))

    def plan(self) -> float:
        """Plan tonight's extraction; no clip lacks features."""
        assert len(delivered_clips(self.lake, [TONIGHT], MODALITIES))
        return seconds(lambda: shards.plan(Context(self.settings), [TONIGHT]))

    def check(self) -> float:
        """Account for tonight's rows."""
        return seconds(lambda: accounting.check(Context(self.settings), TONIGHT))

    def statistics(self) -> float:
        """Write every uploader's genre preference as of tonight."""
        return seconds(lambda: confounders.run(Context(self.settings), TONIGHT))

    def dataset(self) -> float:
        """Write the dataset of everything up to tonight."""
        return seconds(lambda: dataset.build(Context(self.settings), TONIGHT))

    def train_step(self) -> float:
        """Train one epoch over the newest picks; return seconds per optimiser step."""
        data = load_dataset(self.store, self.run_id).training
        size = self.settings.model.batch_size
        data = replace(data, train=newest(data.train, TRAINED_BATCHES * size))
        models: list[Model] = []
        took = seconds(lambda: models.append(train_student(data, None, self.settings.model)))
        with self.store.writing(f"runs/{self.run_id}/student") as folder:
            models[0].save(folder)
        return took / math.ceil(len(data.train.video) / size)

    def evaluate(self) -> float:
        """Rank the newest picks' tracks in the whole catalogue."""
        return seconds(lambda: evaluate.run(Context(self.settings), self.run_id))

    def gate(self) -> float:
        """Decide on the run; after one epoch it does not pass."""
        force = ForceRequest("benchmarks.scale", "to measure publishing")
        return seconds(lambda: gate.decide(Context(self.settings), self.run_id, force))

    def publish(self) -> float:
        """Embed, index, write, verify, make current."""
        return seconds(lambda: publish.run(Context(self.settings), self.run_id))

    def index(self) -> float:
        """Build only the music index."""
        current = read_current(self.store)
        assert current is not None
        folder = self.store.fetch(f"releases/{current.release_id}")
        vectors = read_vectors(folder / MUSIC, read_release_info(folder).run_id, "embedding")
        below = self.settings.release.flat_index_below
        return seconds(lambda: index.build_index(vectors, below))


STEPS: dict[str, Callable[[Bench], float]] = {
    "ids of earlier days": Bench.ids,
    "plan": Bench.plan,
    "check": Bench.check,
    "statistics": Bench.statistics,
    "dataset": Bench.dataset,
    "train step": Bench.train_step,
    "evaluate": Bench.evaluate,
    "gate": Bench.gate,
    "publish": Bench.publish,
    "index": Bench.index,
}


class Clips:
    """A landing day of so many small clips; two frames of each are embedded."""

    def __init__(self, folder: Path, count: int) -> None:
        self.count = count
        self.settings = Settings(
            lake=LakeSettings(root=str(folder / "lake")),
            landing=LandingSettings(root=folder / "landing"),
            extract=ExtractSettings(workers=1, max_shards=1),
            visual=VisualConfig(frames=2),
        )
        self.lake = Lake(self.settings.lake)

    def fill(self) -> float:
        """Write the day: one track, and `count` files of one clip."""
        folder = self.settings.landing.root / f"dt={TONIGHT}"
        folder.mkdir(parents=True)
        silence = np.zeros((2, SAMPLE_RATE), np.float32)
        write_sound(folder / "track.ogg", silence + 0.1)
        pictures = [np.full((48, 64, 3), 40 * n, np.uint8) for n in range(5)]
        write_video(folder / "clip.mp4", pictures, 5, silence)
        content = (folder / "clip.mp4").read_bytes()
        videos = []
        for number in range(self.count):
            # A free box at the end changes the content hash but not the frames.
            (folder / f"{number}.mp4").write_bytes(content + FREE_BOX + number.to_bytes(8))
            videos.append(f"v{number},u{number % 50},m,ugc,{TONIGHT}T10:00:00Z,{number}.mp4")
        columns = "video_id,uploader_id,music_id,source,uploaded_at,media_path"
        (folder / "videos.csv").write_text("\n".join([columns, *videos]))
        columns = "music_id,genre,title,artist,media_path"
        (folder / "music.csv").write_text(f"{columns}\nm,pop,title,artist,track.ogg")
        (folder / "_SUCCESS").touch()
        return 0.0

    def ingest(self) -> float:
        """Read the day: each file is probed."""
        took = seconds(lambda: ingest.run(Context(self.settings), TONIGHT))
        assert self._held("videos") == self.count
        return took

    def plan(self) -> float:
        """Plan the day as one shard."""
        return seconds(lambda: shards.plan(Context(self.settings), [TONIGHT], (Modality.VISUAL,)))

    def extract(self) -> float:
        """Extract that shard."""
        plans = self.lake.scan("shards").select("plan", "shard")
        ((name, shard),) = self.lake.collect(plans.unique(), "shards").iter_rows()
        work = (Context(self.settings), name, shard, (Modality.VISUAL,))
        took = seconds(lambda: extract.run(*work))
        assert self._held("visual_features") == self.count
        return took

    def _held(self, table: str) -> int:
        # Whole rows would dominate the memory that is measured, so only a narrow column is read.
        return len(self.lake.collect(self.lake.scan(table).select("content_hash"), table))


CLIP_STEPS: dict[str, Callable[[Clips], float]] = {
    "ingest": Clips.ingest,
    "plan": Clips.plan,
    "extract": Clips.extract,
}


def newest(picks: Picks, count: int) -> Picks:
    """The last picks by time."""
    rows = np.argsort(picks.time, kind="stable")[-count:]
    return Picks(**{field.name: getattr(picks, field.name)[rows] for field in fields(picks)})


def seconds(work: Callable[[], object]) -> float:
    """Return CPU seconds of a call and its ended children; load does not change them."""
    started = _cpu_seconds()
    work()
    return _cpu_seconds() - started


def _cpu_seconds() -> float:
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(resource.getrusage(one).ru_utime + resource.getrusage(one).ru_stime for one in who)


def in_process(work: Callable[[], float]) -> dict[str, float]:
    """Run a call in its own process; return its seconds and the process's peak memory in MB."""
    # Forked before any thread starts: the memory is that of the imports and the step.
    context = multiprocessing.get_context("fork")
    answer, say = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(work, say))
    process.start()
    say.close()
    found: dict[str, float] = answer.recv()
    process.join()
    return found


def _measured(work: Callable[[], float], say: Connection) -> None:
    took = work()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    say.send({"seconds": took, "megabytes": peak})


def _run_step(
    make: Callable[[Path], Bench | Clips], step: Callable[[Any], float], folder: Path
) -> float:
    return step(make(folder))


def measure(
    make: Callable[[Path], Bench | Clips], steps: Mapping[str, Callable[[Any], float]], size: int
) -> dict[str, dict[str, float]]:
    """Measure every step over one lake of a size."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        lake = Path(folder)
        in_process(lambda: make(lake).fill())
        for name, step in steps.items():
            one = in_process(partial(_run_step, make, step, lake))
            progress = f"{size:,}, {name}: {one['seconds']:.3f} s, {one['megabytes']:.0f} MB"
            print(progress, file=sys.stderr)
            found[name] = one
    return found


def growth(found: Sequence[float], sizes: Sequence[int]) -> str:
    """Return the exponent of growth over the largest tenfold step: 0 is flat, 1 is linear."""
    if len(sizes) < 2:
        return "-"
    return f"{math.log(found[-1] / found[-2]) / math.log(sizes[-1] / sizes[-2]):.2f}"


def print_table(title: str, head: list[str], rows: list[list[str]]) -> None:
    """Print a table as Markdown."""
    print(f"\n{title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def print_nights(sizes: list[int], new: int) -> None:
    """The first two tables."""
    found = [measure(partial(Bench, items=size, new=new), STEPS, size) for size in sizes]
    head = ["step", *(f"{size:,} items" for size in sizes)]
    for title, unit, digits in (
        (f"CPU seconds of a night with {new:,} new items", "seconds", 3),
        ("Largest memory of the step's process, MB", "megabytes", 0),
    ):
        rows = []
        for step in STEPS:
            values = [one[step][unit] for one in found]
            rows.append([step, *(f"{v:.{digits}f}" for v in values), growth(values, sizes)])
        print_table(title, [*head, "exponent"], rows)


def print_clips(counts: list[int]) -> None:
    """The third table."""
    clips = [measure(partial(Clips, count=count), CLIP_STEPS, count) for count in counts]
    rows = [
        [f"{step}, {unit}", *(f"{one[step][unit]:.0f}" for one in clips)]
        for step in CLIP_STEPS
        for unit in ("seconds", "megabytes")
    ]
    print_table("Small clips", ["task", *(f"{count:,} clips" for count in counts)], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--new", type=int, default=500)
    parser.add_argument("--clips", type=int, nargs="*", default=[200, 2000])
    arguments = parser.parse_args()
    today = dt.datetime.now(dt.UTC).date()
    print(f"{today}, {os.cpu_count()} cores, {' '.join(sys.argv[1:]) or 'defaults'}")
    if arguments.sizes:
        print_nights(arguments.sizes, arguments.new)
    if arguments.clips:
        print_clips(arguments.clips)


if __name__ == "__main__":
    main()
