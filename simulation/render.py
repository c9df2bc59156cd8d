"""Renders a small world as landing days with real media files.

    python -m simulation.render OUT

writes three landing days to OUT and their ground truth beside it. On one machine, the same seed
gives the same bytes. A world that is already complete is not rendered again.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from tqdm import tqdm

from models.arrays import Float32Array, Float64Array, UInt8Array
from simulation.encode import write_sound, write_video
from simulation.landing import (
    LATE,
    SUCCESS,
    Row,
    day_folder,
    file_hash,
    music_row,
    video_row,
    write_manifests,
)
from simulation.music import make_ambience, make_music
from simulation.oddities import Oddity, plan_bad_music, plan_oddities
from simulation.pictures import make_frames
from simulation.plan import (
    SEGMENT_SECONDS,
    SMALL_WORLD,
    Part,
    Plan,
    PlannedMusic,
    PlannedVideo,
    make_plan,
    uploader_id,
)
from simulation.styles import GENRE_GROUPS
from simulation.truth import Clip, OddRow, Segment, Track, Truth, save_truth
from simulation.world import World, WorldConfig, make_world

# File that marks a complete world; it holds the fingerprint.
_FINGERPRINT_FILE = ".world"
# Modules that determine the rendered bytes: a change of one makes a world stale.
_SOURCES = (
    "encode",
    "landing",
    "music",
    "oddities",
    "pictures",
    "plan",
    "render",
    "styles",
    "titles",
    "truth",
    "world",
)
_BEST = 10
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RenderedWorld:
    """A world on disk.

    Attributes:
        folder: folder of the landing days, each `dt=YYYY-MM-DD`.
        truth: folder of the ground truth, which `simulation.truth.load_truth` reads.
        was_complete: whether the world was already complete, so that nothing was rendered.
        seconds: wall time of the call.
    """

    folder: Path
    truth: Path
    was_complete: bool
    seconds: float


@dataclass(frozen=True)
class _Job:
    path: Path
    subject: PlannedVideo | PlannedMusic


def render_world(
    out: Path,
    *,
    days: int = SMALL_WORLD.days,
    seed: int = SMALL_WORLD.seed,
    workers: int = 2,
    truth: Path | None = None,
    sizes: WorldConfig = SMALL_WORLD,
) -> RenderedWorld:
    """Render a world, unless it is already complete.

    The world is written to a temporary folder that is renamed at the end, so that `out` has either
    a complete world or none. A world of another seed or code version is replaced.

    Args:
        out: folder of the landing days; the first day is 2026-03-01.
        days: number of days, at least three.
        seed: seed of all random numbers.
        workers: number of rendering processes.
        truth: folder of the ground truth; by default `truth` beside `out`.
        sizes: sizes and effect strengths of the world; `days` and `seed` replace its own.

    Returns:
        The folders of the world.

    Raises:
        FileExistsError: `out` has files that this function did not write.
        ValueError: the world cannot be rendered, or has fewer than three days.
    """
    started = time.monotonic()
    truth = truth or out.parent / "truth"
    config = WorldConfig.model_validate(sizes.model_dump() | {"days": days, "seed": seed})
    fingerprint = _fingerprint(config)
    if _is_complete(out, truth, fingerprint):
        return RenderedWorld(out, truth, True, time.monotonic() - started)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    world = make_world(config)
    plan = make_plan(world)
    odd, late = plan_oddities(plan)
    _render_all(_jobs(partial, plan, odd, late), workers)
    _finish_days(partial, plan, odd, late)
    affinity = world.affinity(np.arange(config.n_videos))
    shutil.rmtree(truth, ignore_errors=True)
    save_truth(truth, _truth(world, plan, affinity, odd, late), affinity)
    (partial / _FINGERPRINT_FILE).write_text(fingerprint, encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
    return RenderedWorld(out, truth, False, time.monotonic() - started)


def _fingerprint(config: WorldConfig) -> str:
    """Return a hash of everything that determines the bytes: config, code and libraries."""
    digest = hashlib.sha256(config.model_dump_json().encode())
    for source in _SOURCES:
        digest.update(Path(__file__).with_name(f"{source}.py").read_bytes())
    for version in (av.__version__, cv2.__version__, np.__version__):
        digest.update(version.encode())
    return digest.hexdigest()


def _is_complete(out: Path, truth: Path, fingerprint: str) -> bool:
    """Return whether the world is complete and up to date.

    Raises:
        FileExistsError: `out` has files that are not a rendered world.
    """
    if not out.exists() or not any(out.iterdir()):
        return False
    found = out / _FINGERPRINT_FILE
    if not found.is_file():
        raise FileExistsError(
            f"{out} has files that are not a rendered world: name an empty folder"
        )
    return found.read_text(encoding="utf-8") == fingerprint and truth.is_dir()


def _jobs(root: Path, plan: Plan, odd: tuple[Oddity, ...], late: Oddity) -> list[_Job]:
    jobs = [_Job(day_folder(root, v.day) / v.media_path, v) for v in plan.videos]
    jobs += [_Job(day_folder(root, m.day) / m.media_path, m) for m in plan.music]
    jobs += [_Job(_odd_path(root, item), item.video) for item in odd if item.is_rendered]
    jobs.append(_Job(_odd_path(root / LATE, late), late.video))
    return sorted(jobs, key=_cost, reverse=True)


def _odd_path(root: Path, item: Oddity) -> Path:
    return day_folder(root, item.truth.day) / item.video.media_path


def _cost(job: _Job) -> float:
    """Return the expected cost; expensive jobs run first, so that no worker finishes late."""
    if isinstance(job.subject, PlannedVideo):
        return sum(part.seconds for part in job.subject.parts) * job.subject.fps
    return job.subject.seconds


def _render_all(jobs: list[_Job], workers: int) -> None:
    for folder in {job.path.parent for job in jobs}:
        folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
        done = pool.map(_render, jobs)
        for _ in tqdm(done, total=len(jobs), desc="rendering", unit="file", disable=None):
            pass
    log.info("rendered %d files", len(jobs))


def _start_worker() -> None:
    cv2.setNumThreads(1)


def _render(job: _Job) -> None:
    subject = job.subject
    if isinstance(subject, PlannedMusic):
        rng = np.random.default_rng(subject.seed)
        write_sound(job.path, make_music(subject.group, subject.tune, subject.seconds, rng))
        return
    sounds = [_sound(part, number, subject.seed) for number, part in enumerate(subject.parts)]
    write_video(job.path, _frames(subject), subject.fps, np.concatenate(sounds, axis=1))


def _frames(video: PlannedVideo) -> Iterator[UInt8Array]:
    for number, part in enumerate(video.parts):
        rng = np.random.default_rng((video.seed, number, 0))
        yield from make_frames(part.scene, part.look, part.seconds, video.fps, video.size, rng)


def _sound(part: Part, number: int, seed: int) -> Float32Array:
    rng = np.random.default_rng((seed, number, 1))
    if part.genre is None:
        return make_ambience(part.tune.density, part.seconds, rng)
    return make_music(part.genre, part.tune, part.seconds, rng)


def _finish_days(root: Path, plan: Plan, odd: tuple[Oddity, ...], late: Oddity) -> None:
    for item in odd:
        _make_odd_file(root, item)
    bad_music, bad_path, prose = plan_bad_music(plan)
    (day_folder(root, bad_music.day) / bad_path).write_bytes(prose)
    for number, day in enumerate(plan.days):
        folder = day_folder(root, day)
        videos = _video_rows(folder, [v for v in plan.videos if v.day == day])
        videos += [_odd_row(root, item) for item in odd if item.truth.day == day]
        music = _music_rows(folder, [m for m in plan.music if m.day == day])
        if day == bad_music.day:
            music.append(_bad_music_row(bad_music, bad_path))
        write_manifests(folder, number, videos, music)
        (folder / SUCCESS).touch()
        if day == late.truth.day:
            late_folder = day_folder(root / LATE, day)
            write_manifests(late_folder, number, [*videos, _odd_row(root / LATE, late)], music)


def _make_odd_file(root: Path, item: Oddity) -> None:
    path = _odd_path(root, item)
    if item.content is not None:
        path.write_bytes(item.content)
    elif item.copy_of is not None:
        shutil.copyfile(day_folder(root, item.copy_of.day) / item.copy_of.media_path, path)
    elif item.kept < 1.0:
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * item.kept)])


def _odd_row(root: Path, item: Oddity) -> Row:
    path = _odd_path(root, item)
    sha256 = item.sha256 or (None if item.is_missing else file_hash(path))
    return video_row(item.video, sha256)


def _video_rows(folder: Path, videos: Iterable[PlannedVideo]) -> list[Row]:
    return [
        video_row(video, _claimed_hash(folder / video.media_path, number))
        for number, video in enumerate(videos)
    ]


def _music_rows(folder: Path, music: Iterable[PlannedMusic]) -> list[Row]:
    return [
        music_row(track, _claimed_hash(folder / track.media_path, number))
        for number, track in enumerate(music)
    ]


def _claimed_hash(path: Path, number: int) -> str | None:
    """Return the sha256 for the manifest; every fifth row has none, as the contract allows."""
    return None if number % 5 == 4 else file_hash(path)


def _bad_music_row(truth: OddRow, media_path: str) -> Row:
    return {
        "music_id": truth.id,
        "genre": "folk",
        "title": "Oranges and Bread",
        "artist": "Nobody",
        "media_path": media_path,
        "sha256": None,
    }


def _truth(
    world: World,
    plan: Plan,
    affinity: Float64Array,
    odd: tuple[Oddity, ...],
    late: Oddity,
) -> Truth:
    groups = GENRE_GROUPS[: world.config.n_groups]
    best = np.argsort(-affinity, axis=1, kind="stable")[:, :_BEST]
    ugc = plan.videos[: world.config.n_videos]
    return Truth(
        seed=world.config.seed,
        days=plan.days,
        groups=groups,
        preferences={
            uploader_id(row): tuple(shares.tolist())
            for row, shares in enumerate(world.uploader_preference)
        },
        music=tuple(
            Track(music_id=m.music_id, group=m.group, day=m.day, late=m.day > plan.days[0])
            for m in plan.music
        ),
        videos=tuple(
            Clip(
                video_id=video.video_id,
                uploader_id=video.uploader_id,
                day=video.day,
                group=groups[int(world.video_group[row])],
                picked=video.music_id,
                best=tuple(plan.music[track].music_id for track in best[row]),
            )
            for row, video in enumerate(ugc)
        ),
        segments=tuple(_segments(plan.videos[world.config.n_videos :])),
        odd=(*(item.truth for item in odd), plan_bad_music(plan)[0]),
        late=(late.truth,),
    )


def _segments(pgc: Iterable[PlannedVideo]) -> Iterator[Segment]:
    for video in pgc:
        for number, part in enumerate(video.parts):
            if part.genre is not None:
                start = number * SEGMENT_SECONDS
                end = start + part.seconds
                yield Segment(video_id=video.video_id, start=start, end=end, group=part.genre)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Render the small world as landing days.")
    parser.add_argument("out", type=Path, help="folder of the landing days dt=YYYY-MM-DD")
    parser.add_argument(
        "--truth", type=Path, help="folder of the ground truth (default: truth beside OUT)"
    )
    parser.add_argument(
        "--seed", type=int, default=SMALL_WORLD.seed, help="seed of all random numbers"
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="rendering processes"
    )
    given = parser.parse_args()
    world = render_world(given.out, seed=given.seed, workers=given.workers, truth=given.truth)
    done = (
        "was complete already" if world.was_complete else f"was rendered in {world.seconds:.0f} s"
    )
    print(f"the world {done}: landing days in {world.folder}, ground truth in {world.truth}")


if __name__ == "__main__":
    main()
