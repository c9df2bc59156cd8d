"""Damages rendered files with fixed seeds: each file gives a result, no worker is lost for good."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from features import (
    AudioConfig,
    ClipFeatures,
    Job,
    JobKind,
    Limits,
    MediaError,
    MediaPool,
    VisualConfig,
)

INPUTS = 300
SOURCES = (
    "film.mp4", "film.webm", "two_streams.mkv", "h264.flv", "h264_open_gop.ts", "h264.avi",
    "h264_fragmented.mp4", "hevc.mp4", "vp9.webm", "av1.mp4", "mpeg2.mpg", "mjpeg.mov",
    "stereo.mp3", "stereo.ogg", "stereo.m4a", "surround.flac", "mono.wav",
)  # fmt: skip
LIMITS = Limits(
    seconds=60, frames=2000, cpu_seconds=20, wall_seconds=60, memory=1 << 30, truncated_share=0.5
)

Rng = np.random.Generator
Damage = Callable[[bytearray, Rng], bytearray]


def flipped(data: bytearray, rng: Rng) -> bytearray:
    """Change up to a hundred bytes anywhere."""
    for at in rng.integers(0, len(data), rng.integers(1, 100)):
        data[at] ^= int(rng.integers(1, 256))
    return data


def flipped_head(data: bytearray, rng: Rng) -> bytearray:
    """Change a few bytes of the first kilobytes, where most headers lie."""
    for at in rng.integers(0, min(len(data), 2000), rng.integers(1, 12)):
        data[at] ^= int(rng.integers(1, 256))
    return data


def flipped_tail(data: bytearray, rng: Rng) -> bytearray:
    """Change a few bytes of the last kilobytes, where MP4 keeps its index."""
    for at in rng.integers(max(0, len(data) - 3000), len(data), rng.integers(1, 12)):
        data[at] ^= int(rng.integers(1, 256))
    return data


def cut(data: bytearray, rng: Rng) -> bytearray:
    """Cut off the tail."""
    return data[: int(rng.integers(1, len(data)))]


def beheaded(data: bytearray, rng: Rng) -> bytearray:
    """Cut off the head."""
    return data[int(rng.integers(1, len(data))) :]


def wiped(data: bytearray, rng: Rng) -> bytearray:
    """Zero a run of bytes."""
    start = int(rng.integers(0, len(data)))
    length = int(rng.integers(1, len(data) // 4))
    data[start : start + length] = bytes(len(data[start : start + length]))
    return data


def swapped(data: bytearray, rng: Rng) -> bytearray:
    """Exchange two blocks, as boxes in the wrong order would lie."""
    size = int(rng.integers(8, max(9, len(data) // 5)))
    first, second = sorted(rng.integers(0, len(data) - 2 * size, 2))
    second = max(second, first + size)
    return (
        data[:first]
        + data[second : second + size]
        + data[first + size : second]
        + data[first : first + size]
        + data[second + size :]
    )


def repeated(data: bytearray, rng: Rng) -> bytearray:
    """Put a block in twice."""
    start, stop = sorted(rng.integers(0, len(data), 2))
    return data[:stop] + data[start:stop] + data[stop:]


def enlarged(data: bytearray, rng: Rng) -> bytearray:
    """Set four bytes to their greatest values: lengths and counts that lie."""
    for at in rng.integers(0, len(data) - 4, rng.integers(1, 8)):
        data[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0"])
    return data


DAMAGES: tuple[Damage, ...] = (
    flipped, flipped_head, flipped_tail, cut, beheaded, wiped, swapped, repeated, enlarged,
)  # fmt: skip


@pytest.mark.slow
def test_every_damaged_file_gives_a_result(rendered: Callable[[str], Path], tmp_path: Path) -> None:
    jobs = []
    for number in range(INPUTS):
        rng = np.random.default_rng(number)
        source = rendered(SOURCES[number % len(SOURCES)])
        damage = DAMAGES[number % len(DAMAGES)]
        path = tmp_path / f"{number}-{damage.__name__}{source.suffix}"
        path.write_bytes(damage(bytearray(source.read_bytes()), rng))
        kind = JobKind.SEGMENTS if number % 3 == 0 else JobKind.VIDEO
        if source.stem in ("stereo", "surround", "mono"):
            kind = JobKind.MUSIC
        jobs.append(Job(path.name, path, kind, segments=((0.0, 1.0),)))
    good = rendered("film.mp4")
    with MediaPool(2, LIMITS, VisualConfig(frames=4), AudioConfig()) as pool:
        found = {job.key: result for job, result in pool.run(jobs)}
        after = [result for _, result in pool.run([Job("good", good, JobKind.VIDEO)] * 4)]
    assert set(found) == {job.key for job in jobs}
    assert all(isinstance(result, ClipFeatures) for result in after)
    outcomes = Counter(
        r.reason.value if isinstance(r, MediaError) else "features" for r in found.values()
    )
    # If all files, or none, gave features, the damage would test little.
    assert INPUTS / 6 < outcomes["features"] < INPUTS * 5 / 6, outcomes
