"""Measures the cost of extraction: `python -m benchmarks.extraction` prints four tables.

Figures are CPU seconds on one thread. In each round, every contender runs once, in turn; the tables
show medians over the rounds and their ratios. Clips are rendered once and kept in the cache folder.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "threads;1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import cv2
import numpy as np

from features import AudioConfig, Job, JobKind, Limits, MediaPool, VisualConfig, ensure_encoder
from features.arrays import UInt8Array
from features.container.media_file import MediaFile
from features.environment import cache_folder
from features.networks.onnx_network import FrameEncoder
from features.video.extractor import VisualExtractor, segment_centres
from features.video.sampling import sample_frames
from features.video.scaling import Scaler
from features.video.timeline import Timeline

FRAMES = 16
RATE = 25
SIZES = {540: (960, 540), 720: (1280, 720), 1080: (1920, 1080)}
LENGTHS = {15: 250, 60: 2 * RATE}


def scenes(width: int, height: int, frames: int) -> Iterator[UInt8Array]:
    """Yield frames with moving textures and shapes, and a cut every 5 s."""
    rng = np.random.default_rng(width)
    canvas = np.zeros((1, 1, 3), np.uint8)
    for number in range(frames):
        if number % 125 == 0:
            layers = [
                cv2.resize(
                    rng.uniform(0, 1, (4 << k, 7 << k, 3)).astype(np.float32),
                    (width + 400, height + 300),
                    interpolation=cv2.INTER_CUBIC,
                )
                / 2**k
                for k in range(8)
            ]
            canvas = np.clip(np.sum(layers, axis=0) / 2 * 235, 0, 235).astype(np.uint8)
        turn = number % 125 / 125
        x, y = int(200 * turn), int(100 * (1 + np.sin(3 * turn)))
        picture = canvas[y : y + height, x : x + width].copy()
        for shape in range(3):
            across = int(width * (0.5 + 0.4 * np.sin(number / 40 + shape)))
            centre = (across, height * (shape + 1) // 4)
            cv2.circle(picture, centre, height // 9, (60 * shape + 40, 200 - 50 * shape, 90), -1)
        yield picture


def clip(height: int, seconds: int) -> Path:
    """Return a rendered clip: H.264 as x264 makes it by default, a keyframe as in LENGTHS."""
    folder = cache_folder() / "benchmark"
    path = folder / f"{height}p-{seconds}s-g{LENGTHS[seconds]}.mp4"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.mp4")
    width, _ = SIZES[height]
    with av.open(str(part), "w") as output:
        options = {"crf": "23", "x264-params": "scenecut=0"}
        stream = output.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = LENGTHS[seconds]
        for number, picture in enumerate(scenes(width, height, seconds * RATE)):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    part.replace(path)
    return path


def ours(path: Path) -> list[UInt8Array]:
    """Sample as the extractor does."""
    scale = Scaler(224)
    found: dict[int, UInt8Array] = {}

    def select_pts(timeline: Timeline) -> list[int]:
        return [timeline.pts_at(t) for t in segment_centres((0, timeline.seconds), FRAMES)]

    def on_frame(ticks: int, frame: av.VideoFrame) -> None:
        found[ticks] = scale(frame)

    sample_frames(MediaFile(path), select_pts, on_frame)
    return list(found.values())


def wanted_indices(path: Path) -> list[int]:
    """Return the numbers of the frames at the segment centres."""
    with av.open(str(path)) as container:
        count = container.streams.video[0].frames
    return [int((i + 0.5) * count / FRAMES) for i in range(FRAMES)]


def shrink(image: Any) -> UInt8Array:
    """Return an image of any size as uint8[224, 224, 3]."""
    return np.asarray(cv2.resize(image, (224, 224), interpolation=cv2.INTER_AREA), np.uint8)


def cv2_read(path: Path) -> list[UInt8Array]:
    """Read every frame and keep the sampled ones."""
    wanted = set(wanted_indices(path))
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    found: list[UInt8Array] = []
    index = 0
    while True:
        more, image = capture.read()
        if not more:
            return found
        if index in wanted:
            found.append(shrink(image))
        index += 1


def cv2_grab(path: Path) -> list[UInt8Array]:
    """Grab every frame and retrieve the sampled ones."""
    wanted = set(wanted_indices(path))
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    found: list[UInt8Array] = []
    index = 0
    while capture.grab():
        if index in wanted:
            image = capture.retrieve()[1]
            found.append(shrink(image))
        index += 1
    return found


def pyav_sequential(path: Path) -> list[UInt8Array]:
    """Decode up to the last sampled frame and scale the sampled ones."""
    wanted = wanted_indices(path)
    scale = Scaler(224)
    found = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for index, frame in enumerate(container.decode(stream)):
            if index in wanted:
                found.append(scale(frame))
            if index == wanted[-1]:
                break
    return found


def null_decode(path: Path) -> list[UInt8Array]:
    """Decode the whole stream and keep nothing, as a reference."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for _ in container.decode(stream):
            pass
    return []


def decord_batch(path: Path) -> list[UInt8Array]:
    """Read the sampled frames by number with decord."""
    import decord

    reader = decord.VideoReader(str(path), num_threads=1, width=224, height=224)
    return list(reader.get_batch(wanted_indices(path)).asnumpy())


def cpu(work: Callable[[], object]) -> float:
    """Return the CPU seconds that a call takes in all threads of this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def race(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median CPU seconds of each contender, run in turn after one warm-up."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, work in contenders.items():
            times[name].append(cpu(work))
    return {name: statistics.median(values) for name, values in times.items()}


def sampling(rounds: int) -> None:
    """Print the cost of sampling 16 frames with each contender."""
    ways = {
        "ours": ours,
        "cv2 read": cv2_read,
        "cv2 grab": cv2_grab,
        "PyAV all": pyav_sequential,
        "null decode": null_decode,
    }
    try:
        import decord  # noqa: F401

        ways["decord"] = decord_batch
    except ImportError:
        print("decord is not installed: `pip install eva-decord` adds its column")
    print(f"\nSampling {FRAMES} frames to 224 x 224: CPU seconds (ours / other)")
    print(f"{'clip':>12} | " + " | ".join(f"{name:>15}" for name in ways))
    for seconds in LENGTHS:
        for height in SIZES:
            path = clip(height, seconds)
            for name, way in ways.items():
                assert name == "null decode" or len(way(path)) == FRAMES, name
            cost = race({n: partial(way, path) for n, way in ways.items()}, rounds)
            cells = [f"{value:6.3f} ({cost['ours'] / value:5.2f})" for value in cost.values()]
            print(f"{seconds:>3} s {height:>5}p | " + " | ".join(f"{c:>15}" for c in cells))


def embedding(rounds: int) -> None:
    """Print the cost of embedding 16 frames, against PyTorch."""
    import torch

    from features.networks.lite0 import Lite0

    torch.set_num_threads(1)
    config = VisualConfig()
    encoder = FrameEncoder(config, ensure_encoder(config))
    network = Lite0().eval()
    pictures = np.random.default_rng(0).integers(0, 256, (FRAMES, 224, 224, 3), np.uint8)
    batch = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 128 - 127 / 128

    def eager(*batches: torch.Tensor) -> None:
        with torch.inference_mode():
            for pictures in batches:
                network(pictures)

    last = batch.contiguous(memory_format=torch.channels_last)
    ways: dict[str, Callable[[], object]] = {
        "ours (ONNX Runtime)": lambda: encoder(pictures),
        "torch eager": lambda: eager(batch),
        "torch eager, channels last": lambda: eager(last),
        "torch eager, one by one": lambda: eager(*torch.split(batch, 1)),
    }
    for way in ways.values():
        way()
    cost = race(ways, rounds)
    print("\nEmbedding a frame: CPU milliseconds (ours / other)")
    for name, value in cost.items():
        ratio = cost["ours (ONNX Runtime)"] / value
        print(f"{name:>28} | {1000 * value / FRAMES:6.1f} ({ratio:.2f})")


def whole_step(rounds: int) -> None:
    """Print where the CPU time of the video step goes."""
    from features.video import blocks
    from features.workers import protocol

    extractor = VisualExtractor(VisualConfig())
    print("\nWhole video step (decode, scale, embed, measure, write): CPU seconds and shares")
    print(f"{'clip':>12} | {'all':>6} | {'decode':>13} | {'scale':>13} | {'embed':>13} | rest")
    for seconds in LENGTHS:
        for height in SIZES:
            path = clip(height, seconds)
            parts: dict[str, list[float]] = {"all": [], "scale": [], "embed": [], "rest": []}
            for _ in range(rounds):
                spent = dict.fromkeys(parts, 0.0)
                with (
                    _timed(Scaler, "__call__", spent, "scale"),
                    _timed(FrameEncoder, "__call__", spent, "embed"),
                    _timed(blocks, "measure", spent, "rest"),
                ):
                    start = time.process_time()
                    features = extractor.extract(MediaFile(path))[0]
                    written = time.process_time()
                    with tempfile.TemporaryFile() as file:
                        file.write(
                            protocol.pack({}, [features.embedding, features.frame_embeddings])
                        )
                    end = time.process_time()
                spent["all"] = end - start
                spent["rest"] += end - written
                for name, value in spent.items():
                    parts[name].append(value)
            median = {name: statistics.median(values) for name, values in parts.items()}
            decode = median["all"] - median["scale"] - median["embed"] - median["rest"]
            cells = [decode, median["scale"], median["embed"], median["rest"]]
            print(
                f"{seconds:>3} s {height:>5}p | {median['all']:6.3f} | "
                + " | ".join(f"{v:6.3f} ({v / median['all']:4.0%})" for v in cells)
            )


class _timed:  # noqa: N801
    """Adds the CPU time of an attribute's calls to a dictionary."""

    def __init__(self, owner: object, name: str, spent: dict[str, float], key: str) -> None:
        self.owner, self.name, self.spent, self.key = owner, name, spent, key

    def __enter__(self) -> None:
        self.plain = plain = getattr(self.owner, self.name)
        spent, key = self.spent, self.key

        def timed(*args: object, **options: object) -> object:
            start = time.process_time()
            try:
                return plain(*args, **options)
            finally:
                spent[key] += time.process_time() - start

        setattr(self.owner, self.name, timed)

    def __exit__(self, *_: object) -> None:
        setattr(self.owner, self.name, self.plain)


def start_up() -> None:
    """Print the start-up cost of a worker, and the shard size at which it is 5 %."""
    path = clip(720, 15)
    count = 8
    code = "import sys, features.workers.worker; sys.exit('torch' in sys.modules)"
    torchless = subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    print(f"\nWorkers import torch: {'no' if torchless else 'YES'}")
    for name, audio in (("pictures", None), ("pictures and sound", AudioConfig())):
        before = _children()
        with MediaPool(1, Limits(), VisualConfig(), audio) as pool:
            results = list(pool.run(Job(str(i), path, JobKind.VIDEO) for i in range(count)))
        total = _children() - before
        clips = sum(result.cpu_seconds for _, result in results)  # type: ignore[union-attr, misc]
        start, each = total - clips, clips / count
        print(
            f"start-up of a worker for {name}: {start:.2f} CPU s; a 15 s clip at 720p: {each:.2f}; "
            f"shard for under 5 %: {int(19 * start / each) + 1} clips"
        )


def _children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def main() -> None:
    """Print the tables named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    sampling(rounds)
    embedding(rounds)
    whole_step(rounds)
    start_up()


if __name__ == "__main__":
    main()
